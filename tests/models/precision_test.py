"""Models that compute in half precision: searched as they are; those of files in float32."""

import keras
import numpy as np
import pytest
import small_models
from masking import prepared, random_architecture

import tas_tf
from tas_tf.errors import SpecError
from tas_tf.experiments.own_model import own_model
from tas_tf.models.network_files import load_model
from tas_tf.training.optimizers import SGD, Adam

# Of rounding to 8 (bfloat16) and 11 (float16) binary digits, as a share of the largest output.
TOLERANCES = {"mixed_bfloat16": 0.06, "mixed_float16": 0.01}


@pytest.fixture(params=["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", small_models.ALL)
def test_the_supernet_computes_as_the_model_does(policy, name):
    model = small_models.ALL[name]()
    inputs = prepared(model)
    try:
        net = tas_tf.Supernet(tas_tf.SearchSpace.from_model(model, leave_out_branches=True))
    except SpecError as error:
        assert "channels to search" in str(error)
        return
    net.gives_logits = False
    architecture = random_architecture(net.space, np.random.default_rng(0))
    outputs = net(inputs, net.fixed_draw(architecture))
    small = tas_tf.build_model(architecture, start_from=model)
    assert {layer.dtype_policy.name for layer in small.layers} >= {policy}
    expected = small(inputs, training=False)
    for one, other in zip(*map(keras.tree.flatten, (outputs, expected)), strict=True):
        assert one.dtype == "float32"
        other = np.asarray(other, np.float32)
        assert np.abs(one - other).max() < TOLERANCES[policy] * np.abs(other).max()


def test_it_is_searched(policy):
    model = small_models.inverted_residual()
    inputs = prepared(model)
    labels = np.arange(len(inputs)) % model.output_shape[-1]
    search = tas_tf.ArchitectureSearch(tas_tf.Supernet(tas_tf.SearchSpace.from_model(model)))
    search.compile(SGD(0.01), Adam(1e-3), target=0.5)
    (logs,) = search.fit((inputs, labels), (inputs, labels), batch_size=3)
    assert np.isfinite(list(logs.values())).all()
    assert np.isfinite(logs["loss"])
    assert search.derive()


@pytest.mark.parametrize("name", ["nested_twice", "inverted_residual", "transformer"])
def test_that_of_a_file_is_the_model_of_float32(policy, name, tmp_path):
    half = small_models.ALL[name]()
    inputs = prepared(half)
    path = str(tmp_path / "mine.keras")
    half.save(path)
    keras.config.set_dtype_policy("float32")
    whole = small_models.ALL[name]()
    whole.set_weights(half.get_weights())
    outputs, expected = (m(inputs, training=False) for m in (load_model(path), whole))
    for one, other in zip(*map(keras.tree.flatten, (outputs, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_that_of_a_file_is_said_to_be_of_float32(policy, tmp_path, capsys):
    path = str(tmp_path / "mine.keras")
    model = small_models.inverted_residual()
    model.save(path)
    keras.config.set_dtype_policy("float32")
    space = own_model(model.output_shape[-1], model.input_shape[1:], model=path)
    assert f"{path} computes in {policy}. Here it is searched, trained" in capsys.readouterr().out
    assert {layer.compute_dtype for layer in space.model.layers} == {"float32"}
