"""Trained networks by name: those of zoo/, run directories, and what is neither."""

import json
import pathlib
import re

import numpy as np
import pytest
from checkout import ROOT

import tas_tf
from tas_tf.config.presets import find_trained, trained_names
from tas_tf.data import ImageData
from tas_tf.errors import ArchitectureError
from tas_tf.models.network_files import load_architecture
from tas_tf.spaces.cost import cost

MIB = 2**20


def test_the_zoo_is_small_and_every_network_has_a_card():
    assert trained_names()
    size = sum(path.stat().st_size for path in (ROOT / "zoo").rglob("*") if path.is_file())
    assert size < 5 * MIB
    listed = (ROOT / "zoo/README.md").read_text()
    for name in trained_names():
        assert f"[{name}]({name}/README.md)" in listed
        assert (ROOT / "zoo" / name / "README.md").read_text().startswith("# ")


@pytest.mark.parametrize("name", trained_names())
def test_a_name_gives_the_network_of_its_architecture(name):
    model = tas_tf.load(name)
    architecture = load_architecture(find_trained(name))
    assert model.input_shape[1:] == architecture.input_shape
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trainable == cost(architecture, "parameters")
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


def test_digits_are_told_apart_as_the_card_says():
    name = "resnet20_digits_tas50"
    model = tas_tf.load(name)
    card = (ROOT / "zoo" / name / "README.md").read_text()
    stated = float(re.search(r"accuracy of the Keras model on it: ([\d.]+)%", card)[1])
    data = ImageData("digits", augmentation="crop", crop_padding=1)
    data.prepare(0)
    batches = data.evaluation("test", 64)
    right = [model.predict_on_batch(x).argmax(1) == y.numpy() for x, y in batches]
    assert 100 * np.concatenate(right).mean() == pytest.approx(stated, abs=0.01)


STUDIED = re.compile(r"--gin_file=specs/study/(\w+)\.gin --only='\^(.+)'")


def test_cards_name_the_trainings_of_studies_that_they_are_of():
    cards = {name: (ROOT / "zoo" / name / "README.md").read_text() for name in trained_names()}
    found = {name: STUDIED.search(card) for name, card in cards.items()}
    assert sum(match is not None for match in found.values()) >= 2
    for name, match in found.items():
        if match:
            study, training = match.groups()
            records = json.loads((ROOT / f"benchmarks/study/{study}.json").read_text())
            accuracy = f"{records['trainings'][training]['accuracy']:.2%}"
            assert f"accuracy of the Keras model on it: {accuracy}" in cards[name]
            network = records["networks"]["/".join(training.split("/")[:3])]["architecture"]
            architecture = load_architecture(find_trained(name))
            assert network["stages"] == json.loads(architecture.to_json())["stages"]


def test_a_run_directory_and_a_keras_file_are_places(tmp_path):
    first = trained_names()[0]
    folder = pathlib.Path(find_trained(first))
    for place in (folder, folder / "model.keras"):
        weights = tas_tf.load(str(place)).get_weights()
        for one, other in zip(weights, tas_tf.load(first).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_is_neither_is_refused_with_the_names():
    with pytest.raises(ArchitectureError, match=f"no network 'resnet21'.*{trained_names()[0]}"):
        tas_tf.load("resnet21")
