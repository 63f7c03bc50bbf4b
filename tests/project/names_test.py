"""Names in the documents: what stands in backticks as `file.name` or as a path exists."""

import collections
import importlib
import inspect
import re
import types

import pytest
from command_line import PROJECT

import tas_tf
from tas_tf.config import gin_config
from tas_tf.config.recorded import RETIRED
from tas_tf.experiments import registry  # noqa: F401  (it registers what gin binds)

PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"]
PAGES += [f"docs/{path.name}" for path in sorted((PROJECT / "docs").glob("*.md"))]
# Files that runs write or that other tools read: names with a dot that are no attributes.
FILES = "bin cfg gin html json jsonl keras lock md onnx partial py tflite toml txt typed xml yml"
FILES = FILES.split()
# Libraries that tas_tf builds on, and names that are neither ours nor importable here.
LIBRARIES = ("keras", "tf", "http")
CLASSES = {
    "Architecture": "tas_tf.spaces.architecture",
    "LatencyTable": "tas_tf.spaces.latency_table",
    "SearchSpace": "tas_tf.spaces.search_space",
}
# What the page on block families adds, and block_family_test.py with it.
ADDED = ("specs/wide14.gin",)
FOREIGN = {
    "kserve.Model": "in .venv-serving, tests/deployment/serving_protocol_test.py",
    "provenance.dense_blocks_per_stage": "a field of architecture.json",
    "test.accuracy": "a field of result.json",
}


def modules() -> dict[str, list[str]]:
    """Dotted names of the files and packages of tas_tf, by their last part."""
    found = collections.defaultdict(list)
    for path in sorted((PROJECT / "tas_tf").rglob("*.py")):
        parts = path.relative_to(PROJECT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found[parts[-1]].append(".".join(parts))
    return found


MODULES = modules()


def quoted(page: str) -> list[str]:
    """What stands in backticks on a page, outside of blocks of code."""
    text = re.sub(r"^```.*?^```", "", (PROJECT / page).read_text(), flags=re.M | re.S)
    return re.findall(r"`([^`\n]+)`", text)


def names(page: str) -> list[str]:
    """Dotted names on a page that are not those of files."""
    found = [name for name in quoted(page) if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name)]
    return sorted(
        {name for name in found if name.split(".")[-1] not in FILES} - {*FOREIGN, *RETIRED}
    )


def attribute(start: object, path: list[str]) -> object:
    for part in path:
        start = getattr(start, part)
    return start


def resolved(name: str) -> object:
    """Returns what a dotted name of a document means.

    Raises:
        LookupError: If it means nothing, or several things.
    """
    first, *rest = name.split(".")
    if first in LIBRARIES:
        library = importlib.import_module({"tf": "tensorflow"}.get(first, first))
        return importlib.import_module(name) if first == "http" else attribute(library, rest)
    if first == "tas_tf":
        return attribute(tas_tf, rest) if rest[0] in dir(tas_tf) else importlib.import_module(name)
    if first in gin_config.registered:
        parameters = inspect.signature(gin_config.registered[first]).parameters
        if rest[0] in parameters:
            return parameters[rest[0]]
    found = {}
    for module in MODULES.get(first, ()):
        try:
            found[module] = attribute(importlib.import_module(module), rest)
        except AttributeError:
            continue
    if first in CLASSES:
        return attribute(importlib.import_module(CLASSES[first]), [first, *rest])
    if len({id(value) for value in found.values()}) != 1:
        raise LookupError(f"{name}: expected one file of tas_tf that has it, found {[*found]}")
    return next(iter(found.values()))


@pytest.mark.parametrize("page", PAGES)
def test_names_are_those_of_the_code(page):
    for name in names(page):
        assert resolved(name) is not None, name


def test_the_method_names_what_implements_it():
    functions = {name: resolved(name) for name in names("docs/method.md")}
    ours = [name for name, value in functions.items() if name.split(".")[0] in MODULES]
    assert len(ours) > 60
    for name in ours:
        assert not isinstance(functions[name], types.ModuleType), name


@pytest.mark.parametrize(
    "name",
    ["losses.cost", "loss.cost_loss", "run_search.targets", "Supernet.nothing", "tf.nothing"]
    + ["sampling._nothing", "export.nothing", "tas_tf.nothing"],
)
def test_a_wrong_name_is_found(name):
    with pytest.raises((LookupError, AttributeError, ImportError)):
        resolved(name)


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    for path in quoted(page):
        if re.fullmatch(r"(tas_tf|tests|tools|specs|benchmarks|docs|\.ci)/[\w./]+", path):
            assert path in ADDED or (PROJECT / path).exists(), path
