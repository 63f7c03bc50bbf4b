"""What type checkers see of the package, which resolves its public names when they are used."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from checkout import ROOT

import tas_tf


@pytest.fixture
def revealed(tmp_path) -> Callable[[str], list[str]]:
    """Returns what mypy says of a program that uses the package."""

    def lines_of(text: str) -> list[str]:
        program = tmp_path / "program.py"
        program.write_text(text)
        command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", program]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        lines = [line.partition(": ") for line in done.stdout.splitlines()]
        return [said for place, _, said in lines if f"/{program.name}:" in place]

    return lines_of


def test_stub_declares_what_the_package_resolves(revealed):
    declared = {}
    exec((ROOT / "tas_tf/__init__.pyi").read_text(), declared)
    for name in tas_tf.__all__:
        assert declared[name] is getattr(tas_tf, name)
    program = "\n".join(["import tas_tf", *(f"tas_tf.{name}" for name in tas_tf.__all__)])
    assert revealed(program) == []
    assert len(revealed(f"{program}\ntas_tf.ImageData\nreveal_type(tas_tf.data)")) == 2


def test_users_get_types(revealed):
    program = """
import tas_tf
space = tas_tf.SearchSpace.resnet(20)
reveal_type(space)
reveal_type(tas_tf.Supernet(space).space)
reveal_type(tas_tf.cost.cost(space.unpruned()))
tas_tf.SearchSpace.resnet('20')
"""
    assert revealed(program) == [
        'note: Revealed type is "tas_tf.spaces.search_space.SearchSpace"',
        'note: Revealed type is "tas_tf.spaces.search_space.SearchSpace"',
        'note: Revealed type is "int"',
        'error: Argument 1 to "resnet" of "SearchSpace" has incompatible type "str"; expected "int"'
        "  [arg-type]",
    ]
