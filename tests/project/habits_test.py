"""Tests can fail and use what is public; code keeps to sizes and calls that a reader can follow."""

import ast
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
LINES_OF_A_FUNCTION = 60
LINES_OF_A_FILE = 400
POSITIONAL = 5
# What says by itself that a test fails; so does a function whose name begins with `check`.
FAILING = ("np.testing.", "pytest.fail", "pytest.raises", "pytest.warns")


def sources(*folders: str) -> Iterator[tuple[str, str]]:
    """Yields the name and the text of every Python file in folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def vacuous(source: str) -> list[str]:
    """The tests and the helpers called check... that no wrong result lets fail."""
    return [
        function.name
        for function in functions(ast.parse(source))
        if function.name.startswith(("test", "check")) and not any(map(_fails, ast.walk(function)))
    ]


def _fails(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        return name.startswith(FAILING) or (isinstance(node.func, ast.Name) and "check" == name[:5])
    return isinstance(node, ast.Assert)


def long(source: str) -> list[str]:
    """The functions that do not fit a screen, each with its lines."""
    lines = [
        (function.name, function.end_lineno - function.lineno + 1)
        for function in functions(ast.parse(source))
    ]
    return [f"{name}: {count} lines" for name, count in lines if count > LINES_OF_A_FUNCTION]


def crowded(source: str) -> list[str]:
    """The calls with more positional arguments than a reader can tell apart, starred ones aside."""
    return [
        f"line {node.lineno}: {ast.unparse(node.func)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and sum(not isinstance(argument, ast.Starred) for argument in node.args) > POSITIONAL
    ]


def private(source: str) -> list[str]:
    """The private names of others: read, imported, or replaced by `setattr`."""
    return [
        f"line {node.lineno}: {name}"
        for node in ast.walk(ast.parse(source))
        for name in _names(node)
        if name.startswith("_") and not name.endswith("__")
    ]


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Attribute):
        return [] if ast.unparse(node.value) in ("self", "cls", "super()") else [node.attr]
    if isinstance(node, ast.ImportFrom):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
        return [str(part.value) for part in node.args if isinstance(part, ast.Constant)]
    return []


def test_every_test_asserts_something():
    found = {name: vacuous(source) for name, source in sources("tests")}
    assert {name: tests for name, tests in found.items() if tests} == {}


@pytest.mark.parametrize("rule", [long, crowded])
def test_functions_and_calls_can_be_taken_in(rule):
    found = {name: rule(source) for name, source in sources("tas_tf")}
    assert {name: offenders for name, offenders in found.items() if offenders} == {}


def test_what_stands_outside_uses_what_is_public():
    found = {name: private(source) for name, source in sources("tests", "benchmarks", "tools")}
    assert {name: names for name, names in found.items() if names} == {}


def test_tests_have_the_rooms_of_the_package():
    rooms = {path.parent.name for path in (ROOT / "tas_tf").glob("*/__init__.py")}
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/*_test.py")}
    # What runs commands as users do, and what holds the project itself to its rules.
    assert {"commands", "project"} < folders and folders - {"commands", "project"} <= rooms


def test_files_are_not_long():
    lines = {name: len(source.splitlines()) for name, source in sources("tas_tf", "tests")}
    assert {name: count for name, count in lines.items() if count > LINES_OF_A_FILE} == {}


@pytest.mark.parametrize(
    ("body", "fails"),
    [
        ("assert f()", True),
        ("for x in y:\n    assert x", True),
        ("with pytest.raises(ValueError):\n    f()", True),
        ("np.testing.assert_allclose(f(), 1)", True),
        ("check_equal(f(), 1)", True),
        ("f()", False),
        ("subprocess.run(command, check=True)", False),
        ("directory.check(config)", False),
        ("np.random.default_rng(0)", False),
    ],
)
def test_what_lets_a_test_fail_is_seen(body, fails):
    indented = body.replace("\n", "\n    ")
    assert vacuous(f"def test_it():\n    {indented}\n") == ([] if fails else ["test_it"])
    assert vacuous(f"def check_it():\n    {indented}\n") == ([] if fails else ["check_it"])
    assert vacuous(f"def helper():\n    {indented}\n") == []


def test_crowded_calls_are_seen():
    assert crowded("f(1, 2, 3, 4, 5)\nf(1, 2, 3, 4, 5, *more, x=6)\n") == []
    assert crowded("x = 1\na.f(1, 2, 3, 4, 5, 6)\n") == ["line 2: a.f"]


def test_long_functions_are_seen():
    body = "    x = 1\n" * 59
    assert long(f"def f():\n{body}") == []
    assert long(f"class A:\n  async def f():\n{body}    y = 2\n") == ["f: 61 lines"]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("loop._step()", ["_step"]),
        ("from tas_tf.training.loop import Loop, _next", ["_next"]),
        ("monkeypatch.setattr(loop, '_SECONDS', 1)", ["_SECONDS"]),
        ("self._step()", []),
        ("loop.__class__", []),
        ("monkeypatch.setattr(loop, 'SECONDS', 1)", []),
    ],
)
def test_private_names_are_seen(line, names):
    assert private(f"x = 1\n{line}\n") == [f"line 2: {name}" for name in names]
