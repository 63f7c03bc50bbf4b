"""Names of classes and data sets that hold anything: in files of lines, cards, pages, terminals."""

import re
import xml.dom.minidom

import numpy as np
import pytest
import small_runs
from matplotlib.figure import Figure

from tas_tf import plain_text
from tas_tf.data.image_data import DataInfo
from tas_tf.deployment import manifest, model_card, saved_model
from tas_tf.experiments import messages
from tas_tf.models.spec_compiler import build_model
from tas_tf.reports import canvas, pages
from tas_tf.runtime.run_directory import RunDirectory

NAMES = [
    "two\nlines",
    "tab\tand\rreturn",
    "\x1b[31mred\x1b[0m",
    "<script>alert(1)</script>",
    "# heading | `code` *bold* [link](x) &amp;",
    "[bold]markup[/bold] :car:",
    "\x00\x07\x7f\x9b",
    "\u202eturned\u2028",
    "gr\u00fcn \U0001f332",
    "- item",
]
# What of these does not stand in any output as it is.
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]")


@pytest.fixture(scope="module")
def classifier():
    architecture = small_runs.space().unpruned()
    made = small_runs.classifier(build_model(architecture))
    return architecture, made.__class__(**{**vars(made), "label_names": NAMES})


def test_labels_have_a_line_each(classifier, tmp_path):
    path = str(tmp_path / "saved")
    saved_model.write_saved_model(classifier[1], path, np.zeros((1, 8, 8, 1), np.uint8))
    with open(f"{path}/assets/{saved_model.LABELS}", encoding="utf-8", newline="") as file:
        text = file.read()
    assert text.splitlines() == [plain_text.one_line(name) for name in NAMES]
    assert not FORBIDDEN.search(text)


def test_a_model_card_is_markdown_whatever_the_names(classifier):
    architecture, made = classifier
    record = {"dataset": "# a\n|b|", "splits": {}}
    facts = manifest.facts(made, architecture.replace(cost={"macs": 1}), record, "", None)
    ordinary = manifest.facts(
        made.__class__(**{**vars(made), "label_names": [f"c{i}" for i in range(10)]}),
        architecture.replace(cost={"macs": 1}), {**record, "dataset": "d"}, "", None,
    )  # fmt: skip
    card, plain_card = model_card.card(facts), model_card.card(ordinary)
    assert len(card.splitlines()) == len(plain_card.splitlines())
    assert not FORBIDDEN.search(card) and "<script>" not in card.replace("\\<", "")


def test_a_page_and_its_pictures_stay_whole(tmp_path):
    for name in NAMES:
        figure = Figure()
        figure.text(0.1, 0.5, name)
        picture = pages.Picture("p", figure, name, name, name)
        content = [pages.Text(name), pages.Table(name, [name], [[name]]), picture]
        content += [pages.Facts({name: name}), pages.Code(name, name)]
        page = pages.Page(name, name, {name: name}, [pages.Section("s", content)])
        for path in pages.write_page(page, str(tmp_path), "page"):
            with open(path, encoding="utf-8", newline="") as file:
                text = file.read()
            text = text.replace(f"```text\n{name}\n```", "")  # code stands as it is
            assert not FORBIDDEN.search(text) and "<script>alert" not in text.replace("\\<", "")
        xml.dom.minidom.parseString((tmp_path / "page_pictures/p.svg").read_bytes())
        xml.dom.minidom.parseString(canvas.svg(figure, "p").encode())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_printed_of_a_data_set_is_a_line(capsys, name):
    info = DataInfo(
        **{field: None for field in DataInfo.__dataclass_fields__}
        | {"dataset": name, "input_shape": (8, 8, 1), "num_classes": 10, "account": ()}
    )
    messages.say_baseline("random", RunDirectory(f"runs/{name}"), info)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert len(lines) == 2 and plain_text.one_line(name) in lines[1]
    assert plain_text.one_line(f"runs/{name}") in lines[0]
    assert not FORBIDDEN.search(printed)
