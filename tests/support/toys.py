"""Toys that specs can bind, and specs that bind them."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from tas_tf.config import gin_config
from tas_tf.errors import SpecError


def toy_run(
    run_dir: str,
    epochs: int,
    rate: float = 0.1,
    kind: Literal["one", "two"] = "one",
    note: str | None = None,
    ratios: Sequence[float] = (1.0,),
    shuffle: bool = True,
    part: int | str = 1,
    space: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    return locals()


def outline(depth: int, classes: int, name: str = "toy") -> tuple[int, int, str]:
    return depth, classes, name


def throw(error: Exception) -> None:
    raise error


def refuse(size: int) -> int:
    raise SpecError(f"expected less than {size}", field="size")


class Place:
    def __init__(self, where: str):
        self.where = where


@functools.cache
def registered() -> dict[str, Callable[..., Any]]:
    """Registers the toys with gin, once in a process and apart from what the package registers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gin_config, "registered", {})
        for toy in (toy_run, throw, refuse, Place):
            gin_config.configurable(toy, toy.__name__)
        gin_config.configurable(outline, "outline", later=("classes",))
        return gin_config.registered


def load(spec: str, *bindings: str, **files: str) -> None:
    """Loads bindings over a spec, `a.gin`; beside it lie further files, `b` as `b.gin`."""
    for name, text in {"a": spec, **files}.items():
        pathlib.Path(f"{name}.gin").write_text(text)
    gin_config.load(["a.gin"], bindings)


def refusal(spec: str, *bindings: str, **files: str) -> str:
    with pytest.raises(SpecError) as raised:
        load(spec, *bindings, **files)
    return str(raised.value)


def in_force() -> list[str]:
    """What was loaded, line by line, less comments."""
    return [line for line in gin_config.whole().splitlines() if line and not line.startswith("#")]
