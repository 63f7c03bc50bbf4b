"""The packages of tas_tf stand in the order in which data flows, and import one way only."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "tas_tf"

# Packages in order, and in each its files in order: a file imports only from what stands before it.
# "" is the top of tas_tf, which begins and ends the order.
LAYERS = (
    ("", "errors json_schema plain_text"),
    ("config", "presets recorded gin_config"),
    (
        "runtime",
        "environment stderr signals files templates cluster devices run_directory lock metrics "
        "checkpoints",
    ),
    (
        "spaces",
        "families architecture choices search_space channels calls operations branches memory "
        "graph model_space pieces cost layer_rows expected_cost latency_table terms space_terms "
        "expected_terms messages "
        "exchanges duality knapsack term_solver dynamic_program budget_solver derivation "
        "separable",
    ),
    (
        "layers",
        "interpolation sampling normalization mixing shapes unit_draws streams aggregation "
        "searchable_unit searchable_stage padding",
    ),
    (
        "data",
        "augmentation splitting checks decoding identity account listing sources folders parts "
        "tfds_source batches given preprocessing image_data",
    ),
    (
        "models",
        "shape_plans trained_weights traversal reading projections narrowing "
        "model_spaces piece_models channel_order candidates lookup candidate_normalization "
        "interpreter supernet spec_compiler built_networks inheritance derived network_files",
    ),
    (
        "training",
        "losses optimizers schedules event_files callbacks progress loop objective supervised "
        "search_loop architecture_search path_search scores path_values measurement search_records",
    ),
    (
        "baselines",
        "values uniform random_draw gated importance sensitivity of_models hard_concrete",
    ),
    (
        "deployment",
        "classifier running formats keras_file saved_model litert_widths litert litert_int8 "
        "folding fake_quantization quantization_aware onnx unreported openvino runners speed "
        "latency_subjects latency_runners latency_profile alignment model_card manifest artifacts",
    ),
    (
        "reports",
        "canvas shape_plots model_plots curve_plots measurement_plots record_schema "
        "measured_record run_records pages tables measurement_section search_section sections "
        "summary report",
    ),
    (
        "experiments",
        "messages live_pictures step_profile networks provenance common latencies kept budgeted "
        "measured_search own_model search baseline train derive export measure profile_device "
        "pipeline registry",
    ),
    ("", "optimizers command_line search baseline train derive export pipeline report measure"),
    ("", "profile_device"),
)
# What a package's `__init__` imports of its own: what users reach as `tas_tf.data.ImageData`.
EXPORTS = {"data": "image_data"}
COMMANDS = ("search", "baseline", "train", "derive", "export", "pipeline", "report", "measure")
COMMANDS += ("profile_device",)


def _named(package: str, file: str) -> str:
    return f"{package}.{file}" if package else file


ORDER = [_named(package, file) for package, files in LAYERS for file in files.split()]
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
FILES = [name for name in MODULES if not name.endswith("__init__")]


def imported(source: str, module: str = "") -> set[str]:
    """The modules of tas_tf that a source text imports anywhere in it; "" for tas_tf itself.

    Args:
        source: The text.
        module: Its own module within tas_tf, which relative imports start from.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ["tas_tf", *module.split(".")][: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {_module(name) for name in names if name.split(".")[0] == "tas_tf"}
    return found


def _module(name: str) -> str:
    """The longest beginning of a dotted name that is a file or a package."""
    parts = name.split(".")[1:]
    while parts and not (PACKAGE.joinpath(*parts).is_dir() or ".".join(parts) in MODULES):
        parts.pop()
    return ".".join(parts)


def before(name: str) -> set[str]:
    """What a file may import: all that stands before it, and packages that stand before its own."""
    above = ORDER[: ORDER.index(name)]
    whole = {package for package in EXPORTS if _named(package, EXPORTS[package]) in above}
    return {*above, *(whole - {name.rpartition(".")[0]})}


@pytest.mark.parametrize(("package", "files"), [layer for layer in LAYERS if layer[0]])
def test_the_readme_s_picture_names_the_files_of_a_package_in_order(package, files):
    text = (PACKAGE.parent / "README.md").read_text()
    (shown,) = re.findall(rf'\b{package}\(?\["{package}: .*?<br>(.*?)"\]', text)
    assert re.split(r",(?:<br>| )", shown) == files.split()


def test_every_file_has_its_place_and_every_place_its_file():
    assert sorted(ORDER) == sorted(FILES)
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize("name", FILES)
def test_imports_only_from_what_stands_before(name):
    assert imported(MODULES[name].read_text(), name) <= before(name)


@pytest.mark.parametrize("name", [name for name in MODULES if name.endswith("__init__")])
def test_packages_say_what_comes_in_and_goes_out(name):
    package = name.removesuffix("__init__").rstrip(".")
    tree = ast.parse(MODULES[name].read_text())
    if package:
        text = " ".join(ast.get_docstring(tree).split())
        assert "Comes in:" in text and "Goes out:" in text and "may be changed" in text
    own = imported(MODULES[name].read_text(), f"{package}.__init__".lstrip("."))
    assert {module.split(".")[0] for module in own} <= {package}


# Packages as the BUILD files name them, in the same order; the top of tas_tf is in two of them.
BUILT = ["base", *(package for package, _ in LAYERS if package), "commands"]
BASE = ["__init__", *LAYERS[0][1].split()]


def library_of(name: str) -> str:
    """The library of the BUILD files that a module of tas_tf belongs to."""
    first = name.partition(".")[0]
    return first if first in BUILT else "base" if first in ["", *BASE] else "commands"


def libraries() -> dict[str, dict[str, ast.expr]]:
    """What each library of the BUILD files, whose syntax is Python's, is given, by its name."""
    found = {}
    for path in PACKAGE.rglob("BUILD.bazel"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "checked_library":
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                found[ast.literal_eval(given["name"])] = given
    return found


def test_every_package_has_a_build_file():
    assert sorted(libraries()) == sorted(BUILT)
    tree = ast.parse((PACKAGE / "BUILD.bazel").read_text())
    (base,) = (node.value for node in ast.walk(tree) if isinstance(node, ast.Assign))
    assert ast.literal_eval(base) == [f"{name}.py" for name in BASE]


@pytest.mark.parametrize("library", BUILT)
def test_build_files_state_what_is_imported_in_the_same_order(library):
    own = [name for name in MODULES if library_of(name) == library]
    needed = set()
    for name in own:
        needed |= {library_of(other) for other in imported(MODULES[name].read_text(), name)}
    needed -= {library, "base"}  # every library is given the base
    stated = ast.literal_eval(libraries()[library].get("deps", ast.List([])))
    assert stated == [f"//tas_tf/{name}" for name in BUILT if name in needed]
    assert needed <= set(BUILT[: BUILT.index(library)])


SPACES = ["tas_tf", "tas_tf.errors", "tas_tf.json_schema", "tas_tf.deployment.formats"]
SPACES += [f"tas_tf.{name}" for name in FILES if name.startswith("spaces.")]


@pytest.mark.parametrize("name", SPACES)
def test_what_is_searched_and_what_formats_there_are_loads_no_tensorflow(name):
    code = f"import sys, {name}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_only_reports_draw():
    drawing = {name for name in FILES if "matplotlib" in MODULES[name].read_text()}
    assert {name.split(".")[0] for name in drawing} == {"reports"}


@pytest.mark.parametrize("name", [*COMMANDS, "command_line"])
def test_commands_define_no_class(name):
    tree = ast.parse(MODULES[name].read_text())
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from tas_tf import data, errors", {"data", "errors"}),
        ("from tas_tf.data import ImageData", {"data"}),
        ("from tas_tf.data.batches import Feed", {"data.batches"}),
        ("from tas_tf.spaces import cost", {"spaces.cost"}),
        ("def f():\n    import tas_tf.spaces.cost as c", {"spaces.cost"}),
        ("from . import cost", {"spaces.cost"}),
        ("from .cost import Budget", {"spaces.cost"}),
        ("from ..errors import SpecError", {"errors"}),
        ("import tas_tf", {""}),
        ("import ast, tas_tfx.data", set()),
    ],
)
def test_imports_are_seen_however_they_are_written(source, expected):
    assert imported(source, "spaces.derivation") == expected
