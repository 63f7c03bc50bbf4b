"""Model cards: the committed one is what the code writes, and what is not known is not told."""

import json

import pytest
import readme_renderer.markdown
from example import EXAMPLE

from tas_tf.deployment.model_card import card


@pytest.fixture
def manifest():
    return json.loads((EXAMPLE / "export/manifest.json").read_text())


def test_the_committed_card_is_what_the_code_writes(manifest):
    assert card(manifest) == (EXAMPLE / "export/model_card.md").read_text()


def test_what_was_not_measured_is_a_dash(manifest):
    for artifact in manifest["artifacts"].values():
        artifact |= {"speed": None, "accuracy": None}
    manifest["keras_accuracy"] = None
    lines = card(manifest).splitlines()
    rows = [
        line for line in lines if line.startswith(tuple(f"| {n}: `" for n in manifest["artifacts"]))
    ]
    assert len(rows) == len(manifest["artifacts"]) > 0
    assert all(row.endswith(" | - | - |") for row in rows)
    assert "- accuracy of the Keras model on it: not known" in lines


def test_text_stands_as_it_is(manifest):
    names = ["a & b", "<c>", "{{ d }}", "{% e %}"]
    manifest["network"]["label_names"] = names
    html = readme_renderer.markdown.render(card(manifest))
    assert "0 a &amp; b, 1 &lt;c&gt;, 2 {{ d }}, 3 {% e %}." in html
