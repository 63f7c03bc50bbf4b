"""How gin files and bindings become settings: where presets lie, what is checked, what is recorded.

Only this file and `experiments.py` know gin; all other classes are ordinary Python.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import importlib.util  # gin uses it without importing it
import inspect
import pathlib
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gin
import typeguard

from tas_tf.errors import SpecError, UserError

_MACRO = re.compile(r"^(\w+) = ", re.MULTILINE)
_INCLUDE = re.compile(r"""^\s*include\s+['"](.+?)['"]""")


@dataclasses.dataclass(frozen=True)
class Source:
    """The gin files and bindings that were asked for."""

    files: tuple[str, ...] = ()
    bindings: tuple[str, ...] = ()


_source = Source()
# Names that are registered, with their parameters: for messages about misspelt ones.
_parameters: dict[str, tuple[str, ...]] = {}


def presets_root() -> pathlib.Path:
    """Returns the folder that holds `specs/`: the installed package, or the checkout."""
    package = pathlib.Path(__file__).resolve().parent
    return package if (package / "specs").is_dir() else package.parent


def configurable(
    function: Callable[..., Any], name: str, later: Sequence[str] = ()
) -> Callable[..., Any]:
    """Registers a function or class with gin, its arguments checked against their type hints.

    Args:
        function: A function or class without `**kwargs`.
        name: The name that gin files use.
        later: Parameters that only the run knows. With any, gin's call returns the function with
            all others given, so that every setting is known, checked and recorded at the start.
    """
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    signature = inspect.signature(function)
    now = [p for p in signature.parameters.values() if p.name not in later]

    @functools.wraps(function, updated=())
    def checked(*args, **kwargs):
        bound = checked.__signature__.bind(*args, **kwargs)
        for parameter, value in bound.arguments.items():
            _check_type(name, parameter, value, hints.get(parameter, Any))
        if later:
            return functools.partial(function, **bound.arguments)
        return function(*args, **kwargs)

    checked.__signature__ = signature.replace(
        parameters=[p.replace(kind=p.KEYWORD_ONLY) for p in now] if later else now
    )
    _parameters[name] = tuple(p.name for p in now)
    return gin.external_configurable(checked, name=name, module="tas_tf")


def _check_type(name: str, parameter: str, value: Any, hint: Any) -> None:
    try:
        typeguard.check_type(value, hint)
    except typeguard.TypeCheckError:
        wanted = getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint)
        wanted = re.sub(r"(typing|collections\.abc|builtins|tas_tf\.\w+)\.", "", wanted)
        raise SpecError(
            f"{_described(f'{name}.{parameter}')}: expected {wanted}. Received: {value!r}"
        ) from None


def _described(parameter: str) -> str:
    """Returns a parameter's name with the macro and the place that bind it."""
    try:
        bound = str(gin.query_parameter(parameter))
    except ValueError:
        return parameter
    macro = bound[1:] if bound.startswith("%") else None
    place = _place(macro or parameter)
    details = ", ".join(filter(None, (macro and f"macro {macro}", place)))
    return f"{parameter} ({details})" if details else parameter


def _place(name: str) -> str | None:
    """Returns where a name is bound last, such as `specs/a.gin, line 3`."""
    setting = re.compile(rf"^\s*{re.escape(name)}\s*=")
    for binding in reversed(_source.bindings):
        if setting.match(binding):
            return f"--gin_bindings={binding!r}"
    for file in reversed(_source.files):
        place = _place_in_file(file, setting)
        if place:
            return place
    return None


def _place_in_file(file: str, setting: re.Pattern) -> str | None:
    lines = pathlib.Path(find_spec(file)).read_text().splitlines()
    for number in range(len(lines), 0, -1):
        if setting.match(lines[number - 1]):
            return f"{file}, line {number}"
        include = _INCLUDE.match(lines[number - 1])
        place = include and _place_in_file(include[1], setting)
        if place:
            return place
    return None


def find_spec(file: str) -> str:
    """Returns the path of a gin file: in the working directory first, then the packaged preset.

    Raises:
        SpecError: If there is none; it names presets of similar names.
    """
    root = presets_root()
    for path in (pathlib.Path(file).expanduser(), root / file):
        if path.is_file():
            return str(path)
    presets = sorted(
        str(p.relative_to(root)) for p in (root / "specs").glob("*.gin") if p.is_file()
    )
    near = difflib.get_close_matches(file, presets, 3) or presets
    raise SpecError(
        f"--gin_file: {file} does not exist here, nor among the presets. "
        f"Presets are: {', '.join(near)}"
    )


def load(files: Sequence[str], bindings: Sequence[str] = ()) -> None:
    """Parses gin files and bindings, in place of what was loaded before.

    Args:
        files: Gin files, see `find_spec`.
        bindings: Bindings such as `TARGET = 0.4`, which override those of the files.

    Raises:
        SpecError: If something is malformed, unknown or misspelt.
    """
    global _source
    _source = Source(tuple(files), tuple(bindings))
    gin.clear_config()
    gin.add_config_file_search_path(str(presets_root()))
    paths = [find_spec(file) for file in files]
    try:
        gin.parse_config_files_and_bindings(paths, list(bindings), finalize_config=False)
    except (OSError, SyntaxError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise SpecError(_explained(error)) from None
    _check_macros()


@contextlib.contextmanager
def extended(bindings: Sequence[str]) -> Iterator[None]:
    """Loads what was loaded anew, with further bindings as long as the context lasts."""
    source = _source
    load(source.files, (*source.bindings, *bindings))
    try:
        yield
    finally:
        load(source.files, source.bindings)


def _check_macros() -> None:
    """Refuses a macro that nothing uses, which is most likely misspelt, and one that is missing."""
    text = gin.config_str()
    defined, used = set(_MACRO.findall(text)), set(re.findall(r"%(\w+)", text))
    for name in sorted(defined - used):
        near = difflib.get_close_matches(name, used, 3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else f". In use are {sorted(used)}"
        raise SpecError(f"{_place(name) or name}: nothing uses the macro {name}{hint}")
    for name in sorted(used - defined):
        raise SpecError(f"the macro {name} is used but never given: add `{name} = ...`")


def call(root: Callable[..., Any], **arguments: Any) -> Any:
    """Calls a root function, with gin's complaints turned into messages for users.

    Raises:
        SpecError: If a required binding is missing.
    """
    try:
        return root(**arguments)
    except UserError as error:
        # gin adds through which configurables the call went.
        raise UserError(str(error).split("\n  In call to configurable")[0]) from None
    except RuntimeError as error:
        if "Required bindings" in str(error):
            raise SpecError(_explained(error)) from None
        raise


def resolved() -> str:
    """Returns the configuration that is in force, defaults included, as a gin file that repeats it.

    Only settings of functions and classes that were called so far appear.
    """
    return gin.operative_config_str()


def whole() -> str:
    """Returns all that was loaded as one gin file."""
    return gin.config_str()


def _explained(error: Exception) -> str:
    """Returns gin's message without what only gin's authors need."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = " | ".join(dict.fromkeys(lines[:4]))
    unknown = re.search(r"No configurable matching '@?([\w./]+)'|reference '@([\w./]+)'", message)
    if unknown:
        name = unknown[1] or unknown[2]
        near = difflib.get_close_matches(name, _parameters, 3, cutoff=0.5)
        message += f" | known are {', '.join(near or _parameters)}"
    parameter = re.search(
        r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", message
    )
    if parameter:
        names = _parameters.get(parameter[1].split(".")[-1], ())
        near = difflib.get_close_matches(parameter[2], names, 3, cutoff=0.5)
        message += f" | its parameters are {', '.join(near or names)}"
    if isinstance(error, SyntaxError) and "malformed node" in message:
        message += " | text needs quotes, such as DATASET = 'cifar10'"
    if isinstance(error, AttributeError) or "file" in message.lower() and "include" in message:
        message += " | an included file does not exist here, nor among the presets"
    return f"spec: {message}"
