"""The files of tas_tf stand in the order in which data flows, and import only upwards."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "tas_tf"
GROUPS = (
    (
        "errors",
        "blocks",
        "architecture",
        "search_space",
        "cost",
        "expected_cost",
        "chain",
        "budgeted",
        "derivation",
        "run_schema",
        "latency_table",
    ),
    ("interpolation", "sampling", "normalization", "mixing", "unit_draws", "searchable"),
    ("supernet", "padding", "spec_compiler", "inheritance"),
    ("noise", "cluster", "runtime", "metrics", "checkpoints", "run_lock", "interruption")
    + ("image_sources", "tfds_source", "splitting", "augmentation", "image_batches")
    + (
        "data_checks",
        "data",
        "losses",
        "optimizers",
        "canvas",
        "drawing",
        "plotting",
        "events",
        "callbacks",
        "progress",
        "training_loop",
        "search_loop",
    ),
    (
        "baselines",
        "networks",
        "saved_models",
        "litert",
        "quantization",
        "runtimes",
        "measuring",
        "profiling",
        "alignment",
        "configuration",
        "manifest",
        "exporting",
        "messages",
        "run_parts",
        "run_records",
        "pages",
        "report_tables",
        "report_search",
        "report_sections",
        "reporting",
        "device_experiments",
        "outcome_experiments",
        "experiments",
    ),
    ("commands", "search", "train", "derive", "export", "report", "pipeline")
    + ("measure", "profile_device"),
)
ORDER = sum(GROUPS, ())
FILES = sorted(
    ".".join(p.relative_to(PACKAGE).with_suffix("").parts) for p in PACKAGE.rglob("*.py")
)
MODULES = [name for name in FILES if name != "__init__"]


def parse(name: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{name}.py").read_text())


def imported_files(tree: ast.Module) -> set[str]:
    """The files of tas_tf that a file imports anywhere in it; "" for the package itself."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = f"tas_tf.{node.module or ''}".rstrip(".") if node.level else node.module
            names = [f"{base}.{alias.name}" if base == "tas_tf" else base for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        found |= {(part + [""])[1] for part in parts if part[0] == "tas_tf"}
    return found


def test_every_file_has_its_place():
    assert set(MODULES) <= set(ORDER)


@pytest.mark.parametrize("name", MODULES)
def test_imports_only_from_files_above(name):
    above = set(ORDER[: ORDER.index(name)])
    assert imported_files(parse(name)) <= above


@pytest.mark.parametrize("name", ["tas_tf", *(f"tas_tf.{n}" for n in GROUPS[0] if n in MODULES)])
def test_what_is_searched_loads_no_tensorflow(name):
    code = f"import sys, {name}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [n for n in GROUPS[-1] if n in MODULES])
def test_commands_define_no_class(name):
    assert not [node.name for node in ast.walk(parse(name)) if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from tas_tf import data, cost", {"data", "cost"}),
        ("from tas_tf.data import load", {"data"}),
        ("def f():\n    import tas_tf.data as d", {"data"}),
        ("from . import data", {"data"}),
        ("from .data import load", {"data"}),
        ("import tas_tf", {""}),
        ("import ast, tas_tfx.data", set()),
    ],
)
def test_imports_are_seen_however_they_are_written(source, expected):
    assert imported_files(ast.parse(source)) == expected
