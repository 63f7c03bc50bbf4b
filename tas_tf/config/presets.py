"""Presets, published and trained networks: the paths of their files, by name."""

from __future__ import annotations

import codecs
import difflib
import os
import pathlib
import re

from tas_tf.errors import SpecError

# The model of a user that a search was of, in its run directory.
BASE = "base.keras"


def presets_root() -> pathlib.Path:
    """Returns the folder that holds `specs/`: the installed package, or the checkout."""
    package = pathlib.Path(__file__).resolve().parents[1]
    return package if (package / "specs").is_dir() else package.parent


def is_file(path: str) -> bool:
    """Whether a gin file is there."""
    if "://" not in path:
        return os.path.isfile(path)
    import tensorflow as tf  # late: what lies on this machine needs none, and is answered at once

    return tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path)


def find_spec(file: str, asked_by: str = "--gin_file") -> str:
    """Returns the path of a gin file: in the working directory first, then the packaged preset.

    Args:
        file: The file as it was asked for.
        asked_by: What asks for it, for messages.

    Raises:
        SpecError: If there is none; it names presets of similar names.
    """
    root = presets_root()
    for path in (os.path.expanduser(file), os.path.join(root, file)):
        if is_file(path):
            return path
    presets = sorted(str(p.relative_to(root)) for p in (root / "specs").rglob("*.gin"))
    near = difflib.get_close_matches(file, presets, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"presets are {', '.join(presets)}"
    raise SpecError(f"{asked_by}: {file} does not exist here, nor among the presets; {hint}")


def find_included(include: str, file: str, asked_by: str = "include") -> str:
    """Returns what finds an included gin file: beside the including one first, then as any spec.

    Args:
        include: The file as the line `include` names it.
        file: The gin file with that line, as it was asked for.
        asked_by: What asks for it, for messages.

    Raises:
        SpecError: If there is none.
    """
    beside = os.path.join(os.path.dirname(find_spec(file)), include)
    if "://" not in include and is_file(beside):
        return beside
    find_spec(include, asked_by)
    return include


def same_file(file: str, other: str) -> bool:
    """Whether two gin files, as they were asked for, are one."""
    one, two = (find_spec(name) for name in (file, other))
    return one == two if "://" in one + two else os.path.samefile(one, two)


def read_lines(path: str) -> list[str]:
    """Returns the lines of a gin file: UTF-8, with or without a byte order mark."""
    try:
        if "://" in path:
            import tensorflow as tf

            with tf.io.gfile.GFile(path, "rb") as file:
                content = file.read()
        else:
            content = pathlib.Path(path).read_bytes()
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise SpecError(f"{path} is UTF-16 text: save it as UTF-8")
        return re.split("\r\n|\r|\n", content.decode("utf-8-sig").removesuffix("\n"))
    except UnicodeDecodeError as error:
        message = f"{path} cannot be read as a spec: {error}. Save it as UTF-8"
        raise SpecError(message) from None
    except OSError as error:
        raise SpecError(f"{path} cannot be read as a spec: {error}") from None


def published_spec(name: str | None) -> str | None:
    """Returns the spec of a published network, by the network's name; None if it is none."""
    spec = f"specs/architectures/{name}.gin"
    return spec if (presets_root() / spec).is_file() else None


def published_names() -> list[str]:
    """Returns the names of the published networks."""
    files = (presets_root() / "specs" / "architectures").glob("*.json")
    return sorted(path.stem for path in files)


def find_architecture(name: str) -> str:
    """Returns the path of an architecture: as given, or that of a published network's name."""
    preset = presets_root() / "specs" / "architectures" / f"{name}.json"
    return (
        str(preset) if not pathlib.Path(name).expanduser().exists() and preset.is_file() else name
    )


def trained_names() -> list[str]:
    """Returns the names of the trained networks of `zoo/`."""
    folders = (presets_root() / "zoo").glob("*/architecture.json")
    return sorted(path.parent.name for path in folders)


def find_trained(name: str) -> str:
    """Returns the path of a trained network: as given, or that of a name in `zoo/`."""
    known = not pathlib.Path(name).expanduser().exists() and name in trained_names()
    return str(presets_root() / "zoo" / name) if known else name
