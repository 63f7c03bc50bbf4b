"""The search of a model that was read, on digits, as one would write it in Python."""

import keras
import numpy as np
import pytest
import small_runs
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits

import tas_tf
from tas_tf.errors import DataError, SpecError
from tas_tf.runtime.checkpoints import Checkpoints
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.cost import cost
from tas_tf.training.optimizers import SGD, Adam
from tas_tf.training.path_search import PathSearch


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    images = (found.images[..., None] / 16).astype("float32")
    return images, found.target.astype("int32")


def concatenating(activation=None):
    """A small network that concatenates."""
    i = keras.Input((8, 8, 1))
    parts = [i]
    for filters in (16, 12, 12):
        x = layers.Concatenate()(parts) if parts[1:] else i
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        parts.append(layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x)))
    x = layers.Concatenate()(parts[1:])
    x = layers.GlobalMaxPooling2D()(x)
    x = layers.Dropout(0.1, seed=3)(x)
    return keras.Model(i, layers.Dense(10, activation=activation)(x))


@pytest.fixture(scope="module")
def trained(digits):
    keras.utils.set_random_seed(0)
    model = concatenating("softmax")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*(part[:1400] for part in digits), epochs=6, verbose=0)
    return model


def halves(digits):
    return tuple(part[:700] for part in digits), tuple(part[700:1400] for part in digits)


def search_of(model, **options):
    keras.utils.set_random_seed(5)  # of the first logits
    search = tas_tf.ArchitectureSearch(tas_tf.Supernet(tas_tf.SearchSpace.from_model(model)))
    optimizers = {"optimizer": SGD(0.02), "arch_optimizer": Adam(0.05)}
    search.compile(**optimizers, **{"target": 0.5, **options})
    return search


def accuracy(model, digits):
    images, labels = (part[1400:] for part in digits)
    return (np.argmax(model.predict(images, verbose=0), 1) == labels).mean()


def test_a_trained_model_becomes_a_smaller_one(trained, digits):
    search = search_of(trained)
    history = search.fit(*halves(digits), epochs=3)
    assert history[-1]["accuracy"] > 0.4
    assert 0 < history[-1]["width_entropy"] < 1
    derived = search.derivation()
    assert derived.in_band
    smaller = tas_tf.build_model(derived.architecture, start_from=search.supernet)
    counted = cost(derived.architecture) / cost(search.supernet.space.unpruned())
    assert 0.475 <= counted <= 0.5
    parameters = cost(derived.architecture, "parameters")
    assert parameters == sum(int(np.prod(v.shape)) for v in smaller.trainable_variables)
    smaller.compile("adam", "sparse_categorical_crossentropy")
    smaller.fit(*(part[:1400] for part in digits), epochs=1, verbose=0)
    assert accuracy(smaller, digits) > 0.8
    assert accuracy(trained, digits) > 0.8  # it stays as it was


@pytest.mark.slow
def test_a_search_that_was_cut_off_goes_on_as_if_it_was_not(trained, digits, tmp_path):
    batches = [
        tf.data.Dataset.from_tensor_slices(half).batch(64, drop_remainder=True).take(3)
        for half in halves(digits)
    ]
    whole = search_of(trained)
    whole.fit(*batches, epochs=3)
    directory = RunDirectory(str(tmp_path))
    first = search_of(trained)
    with pytest.raises(small_runs.Killed):
        first.fit(
            *batches,
            epochs=3,
            callbacks=[small_runs.KillAt(2)],
            checkpoints=Checkpoints(directory, **first.state()),
        )
    second = search_of(trained)
    checkpoints = Checkpoints(directory, **second.state())
    assert checkpoints.restore()
    second.fit(*batches, epochs=3, checkpoints=checkpoints)
    for variable, expected in zip(second.supernet.variables, whole.supernet.variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), expected.numpy())


def test_losses_metrics_and_weights_are_those_of_keras(digits):
    images, labels = (part[:128] for part in digits)
    keras.utils.set_random_seed(1)
    model = concatenating("softmax")
    wanted = keras.utils.to_categorical(labels, 10)
    search = search_of(
        model,
        loss=keras.losses.CategoricalCrossentropy(),
        metrics=[keras.metrics.categorical_accuracy, "categorical_crossentropy"],
    )
    weights = np.r_[np.ones(64), np.zeros(64)].astype("float32")
    net = search.supernet
    draw = net.fixed_draw(net.space.unpruned())
    output = net(images, draw)
    np.testing.assert_allclose(output, model.predict(images, verbose=0), atol=1e-5)
    half = search.objective.sum_of_losses(wanted, output, [weights])
    expected = keras.losses.CategoricalCrossentropy(reduction="sum")(wanted[:64], output[:64])
    assert float(half) == pytest.approx(float(expected), rel=1e-5)
    (log,) = search.fit((images, wanted, weights), (images, wanted), epochs=1)
    assert log["categorical_crossentropy"] > 0
    assert 0 <= log["architecture_categorical_accuracy"] <= 1
    assert "accuracy" not in log


def of_two_outputs(structure):
    i = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="shared")(i)
    x = layers.GlobalMaxPooling2D()(layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x)))
    digit = layers.Dense(10, activation="softmax", name="digit")(x)
    is_odd = layers.Dense(1, activation="sigmoid", name="odd")(layers.Dense(6, "relu")(x))
    outputs = {"digit": digit, "odd": is_odd}
    return keras.Model(i, outputs if structure is dict else [*outputs.values()])


@pytest.mark.parametrize("structure", [dict, list])
def test_a_model_of_several_outputs_is_searched_by_the_sum_of_their_losses(digits, structure):
    images, labels = (part[:256] for part in digits)
    keras.utils.set_random_seed(3)
    losses = {"digit": "sparse_categorical_crossentropy", "odd": "binary_crossentropy"}
    metrics = {"digit": ["accuracy"]}
    wanted = {"digit": labels, "odd": (labels % 2)[:, None]}
    if structure is list:
        losses, wanted, metrics = [*losses.values()], tuple(wanted.values()), [["accuracy"]]
    search = search_of(of_two_outputs(structure), loss=losses, metrics=metrics)
    net = search.supernet
    given = net(images, net.whole_draw())
    assert isinstance(given, structure)
    digit, odd = given.values() if structure is dict else given
    expected = keras.losses.SparseCategoricalCrossentropy(reduction="sum")(labels, digit)
    expected += keras.losses.BinaryCrossentropy(reduction="sum")((labels % 2)[:, None], odd)
    assert float(search.objective.sum_of_losses(wanted, given, [])) == pytest.approx(
        float(expected)
    )
    history = search.fit((images, wanted), (images, wanted), epochs=5)
    name = "digit_accuracy" if structure is dict else "output_1_accuracy"
    assert history[-1]["loss"] < history[0]["loss"] and 0 < history[-1][name] <= 1
    smaller = tas_tf.build_model(search.derive(), start_from=net)
    assert isinstance(smaller(images), structure)


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (None, "expected one for each of .'digit', 'odd'.. Received: None"),
        ("mse", "expected one for each of"),
        ({"digit": "mse"}, "expected one for each of"),
        ({"digit": "mse", "odd": None}, "expected one for each output"),
        (["mse", "mse"], "expected one for each of"),
    ],
)
def test_every_output_needs_its_loss(loss, match):
    with pytest.raises(SpecError, match=f"loss: {match}"):
        search_of(of_two_outputs(dict), loss=loss)
    with pytest.raises(SpecError, match="by measurement expects a model of one output"):
        PathSearch(tas_tf.Supernet(tas_tf.SearchSpace.from_model(of_two_outputs(list))))


def test_one_output_has_one_loss(trained):
    with pytest.raises(SpecError, match="loss: expected one for the only output. Received: ..mse"):
        search_of(trained, loss=["mse"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"loss": "no_such_loss"}, "loss: expected a loss of Keras"),
        ({"metrics": ["no_such_metric"]}, "metrics: expected functions"),
        ({"metrics": [keras.metrics.Mean]}, "metrics: expected functions"),
        ({"cost_formula": "published"}, "the published formulas are of ResNets"),
    ],
)
def test_what_cannot_be_searched_for_is_named(options, match):
    with pytest.raises(SpecError, match=match):
        search_of(concatenating(), **options)


def test_data_of_one_half_alone_are_refused(digits):
    with pytest.raises(DataError, match="data of the architecture half beside"):
        search_of(concatenating()).fit(digits, epochs=1)
