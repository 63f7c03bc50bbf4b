"""Gin files and bindings as settings: parsed, checked by type, explained and recorded."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import importlib.util  # noqa: F401, gin uses it without importing it
import inspect
import io
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import gin
import typeguard

from tas_tf.config.presets import find_included, find_spec, read_lines, same_file
from tas_tf.config.recorded import RETIRED, retired, without_here
from tas_tf.errors import SpecError, UserError, WorkerLostError

_MACRO = re.compile(r"^(\w+) = ", re.MULTILINE)
_INCLUDE = re.compile(r"""^\s*include\s+['"](.+?)['"]""")
# What the commands' flags give to experiments.
_FLAGS_ONLY = frozenset(("run_dir", "dry_run"))
_TEXT_OR_COMMENT = re.compile(r"""'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|\#.*""")
_MODULES = re.compile(r"\b(typing|collections\.abc|builtins|keras|tas_tf)\.([a-z_]\w*\.)*")


@dataclasses.dataclass(frozen=True)
class Source:
    """The gin files and bindings that were asked for."""

    files: tuple[str, ...] = ()
    bindings: tuple[str, ...] = ()


_source = Source()
# Functions and classes that specs can bind, by their names in specs.
registered: dict[str, Callable[..., Any]] = {}
# The type of every parameter of each.
_types: dict[str, dict[str, Any]] = {}


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
    now = [
        p.replace(kind=p.KEYWORD_ONLY) for p in signature.parameters.values() if p.name not in later
    ]
    required = [p.name for p in now if p.default is p.empty]

    def checked(**arguments: Any) -> Any:
        missing = [parameter for parameter in required if parameter not in arguments]
        if missing:
            raise SpecError(
                f"{name}: nothing gives {', '.join(missing)}; include a preset such as "
                f"specs/resnet20.gin, or add `{name}.{missing[0]} = ...`"
            )
        arguments = {key: _typed(name, key, value) for key, value in arguments.items()}
        return functools.partial(function, **arguments) if later else function(**arguments)

    wrapped: Any = functools.wraps(function, updated=())(checked)
    wrapped.__signature__ = signature.replace(parameters=now)
    del wrapped.__wrapped__  # gin would look there, and take settings of what only the run knows
    registered[name] = wrapped
    _types[name] = {p.name: hints.get(p.name, Any) for p in now}
    return gin.external_configurable(wrapped, name=name, module="tas_tf")


def _typed(name: str, parameter: str, value: Any) -> Any:
    """Returns a value that has its parameter's type: whole numbers pass for float, as in Python."""
    hint = _types[name][parameter]
    allowed = typing.get_args(hint) or (hint,)
    try:
        if isinstance(value, bool) and bool not in allowed and Any not in allowed:
            raise typeguard.TypeCheckError("a bool passes for a number in Python")
        typeguard.check_type(
            value,
            hint,
            collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS,
        )
    except typeguard.TypeCheckError:
        raise SpecError(
            f"{described(f'{name}.{parameter}')}: expected {type_of(name, parameter)}. "
            f"Received: {value!r}"
        ) from None
    return float(value) if isinstance(value, int) and float in allowed else value


def type_of(name: str, parameter: str) -> str:
    """Returns the type of a parameter as people write it."""
    hint = _types[name][parameter]
    return re.sub(_MODULES, "", hint.__name__ if isinstance(hint, type) else str(hint))


def described(parameter: str) -> str:
    """Returns a parameter such as `run_search.epochs` with the macro and the place that bind it."""
    try:
        macro = _macro(gin.query_parameter(parameter))
    except ValueError:
        return parameter
    place = _place(macro or parameter)
    details = ", ".join(filter(None, (macro and f"macro {macro}", place)))
    return f"{parameter} ({details})" if details else parameter


def _macro(value: Any) -> str | None:
    """Returns the name of the macro that a value is, if it is one."""
    is_macro = isinstance(value, gin.config.ConfigurableReference) and str(value).startswith("%")
    return str(value)[1:] if is_macro else None


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
    lines = read_lines(find_spec(file))
    for number in range(len(lines), 0, -1):
        if setting.match(lines[number - 1]):
            return f"{file}, line {number}"
        include = _INCLUDE.match(lines[number - 1])
        place = include and _place_in_file(find_included(include[1], file), setting)
        if place:
            return place
    return None


def _parse(file: str, including: tuple[str, ...] = ()) -> list[str]:
    """Parses a file with its includes in their places; returns all their lines.

    gin's own include also looks among Python's packages, and says little where it fails.
    """
    path = find_spec(file)
    lines = [
        without_here(_without_retired(line, f"{file}, line {number}"), path)
        for number, line in enumerate(read_lines(path), 1)
    ]
    everything, parsed = lines.copy(), 0
    for number, line in enumerate(lines):
        include = _INCLUDE.match(line)
        if include:
            _parse_lines(file, lines, parsed, number)
            parsed = number + 1
            place = f"{file}, line {parsed}: include"
            included = find_included(include[1], file, place)
            if any(same_file(included, other) for other in (*including, file)):
                raise SpecError(f"{place}: {include[1]} includes itself")
            everything += _parse(included, (*including, file))
    _parse_lines(file, lines, parsed, len(lines))
    return everything


def _parse_lines(file: str, lines: list[str], start: int, stop: int) -> None:
    text = io.StringIO("\n" * start + "\n".join(lines[start:stop]))
    text.name = file  # what gin calls it
    with _explained(file):
        gin.parse_config(text)


def _without_retired(line: str, place: str) -> str:
    """Returns a line of a gin file, empty and said to be left out where its setting is retired."""
    setting = retired(line)
    if setting is None:
        return line
    _say_retired(place, setting)
    return ""


@functools.cache  # a pipeline loads its spec several times
def _say_retired(place: str, setting: str) -> None:
    print(f"{place}: {setting} is left out: {RETIRED[setting]}")


def load(files: Sequence[str], bindings: Sequence[str] = ()) -> None:
    """Parses gin files and bindings, in place of what was loaded before.

    Args:
        files: Gin files, see `find_spec`.
        bindings: Bindings such as `TARGET = 0.4`, which override those of the files.

    Raises:
        SpecError: If something is malformed, unknown or misspelt.
    """
    global _source
    bindings = [_without_retired(binding, f"--gin_bindings={binding!r}") for binding in bindings]
    _source = Source(tuple(files), tuple(bindings))
    gin.clear_config()
    lines = [line for file in files for line in _parse(file)]
    with _explained("--gin_bindings"):
        gin.parse_config(list(bindings))
    _check_macros("\n".join([*lines, *bindings]))
    _check_types()
    _check_flags_only()


@contextlib.contextmanager
def given(arguments: Mapping[str, Any]) -> Iterator[None]:
    """Loads what was loaded anew, with arguments that win as long as the context lasts.

    Args:
        arguments: Values of parameters such as `run_search.start_from`.
    """
    source = _source
    load(source.files, source.bindings)
    for parameter, value in arguments.items():
        gin.bind_parameter(parameter, value)
    try:
        yield
    finally:
        load(source.files, source.bindings)


def _check_macros(text: str) -> None:
    """Refuses a macro that nothing uses, which is most likely misspelt, and one that is missing.

    Args:
        text: All that was written. A use that another binding overrides is a use.
    """
    in_force = gin.config_str()
    known = _used_macros(text)
    for name in sorted(_idle_macros(in_force) - known):
        near = difflib.get_close_matches(name, known, 3, cutoff=0.5)
        in_use = f"; in use are {', '.join(sorted(known)) or 'none'}"
        hint = f"; did you mean {' or '.join(near)}?" if near else in_use
        raise SpecError(f"{_place(name) or name}: nothing uses the macro {name}{hint}")
    for name in sorted(_used_macros(in_force) - set(_MACRO.findall(in_force))):
        raise SpecError(f"the macro {name} is used but never given: add `{name} = ...`")


def _used_macros(text: str) -> set[str]:
    return set(re.findall(r"%(\w+)", _TEXT_OR_COMMENT.sub("", text)))


def _idle_macros(text: str) -> set[str]:
    return set(_MACRO.findall(text)) - _used_macros(text)


def _check_types() -> None:
    """Checks every value that is given, whether this command uses it or not."""
    for name, types in _types.items():
        for parameter in types:
            with contextlib.suppress(ValueError):  # what gin raises where nothing is given
                value = gin.query_parameter(f"{name}.{parameter}")
                macro = _macro(value)
                if macro:
                    value = gin.query_parameter(f"{macro}/gin.macro.value")
                if not any(gin.config.iterate_references(value)):
                    _typed(name, parameter, value)


def _check_flags_only() -> None:
    """Refuses settings that commands give by their flags: a binding would change nothing."""
    for name, types in _types.items():
        for parameter in _FLAGS_ONLY.intersection(types):
            with contextlib.suppress(ValueError):
                gin.query_parameter(f"{name}.{parameter}")
                setting = described(f"{name}.{parameter}")
                raise SpecError(f"{setting} changes nothing: give the flag --{parameter}")


def call(name: str, **arguments: Any) -> Any:
    """Calls what is registered under a name, with gin's complaints turned into messages for users.

    Args:
        name: Its name in specs, such as `run_search`.
        arguments: What gin does not give.

    Raises:
        UserError: Without what gin adds to it.
        WorkerLostError: Likewise.
        SpecError: If the spec refers to itself.
    """
    try:
        return gin.get_configurable(name)(**arguments)
    except (UserError, WorkerLostError) as error:
        if isinstance(error, UserError):
            raise UserError(error.message, field=error.field) from None
        # gin adds which values were given, and through which configurables the call went.
        message = re.split(r"\n  (?:No values supplied|In call to configurable)", str(error))[0]
        raise WorkerLostError(message) from None
    except RecursionError:
        raise SpecError(
            "the spec goes in a circle: a macro or a reference leads to itself"
        ) from None


def resolved() -> str:
    """Returns the configuration that is in force, defaults included, as a gin file that repeats it.

    Only settings of functions and classes that were called so far appear.
    """
    return gin.operative_config_str()


def whole() -> str:
    """Returns all that was loaded as one gin file, less the macros whose uses are overridden."""
    text = gin.config_str()
    for name in _idle_macros(text):
        text = re.sub(rf"^{name} = .*\n(?: .*\n)*", "", text, flags=re.MULTILINE)
    return text


@contextlib.contextmanager
def _explained(source: str) -> Iterator[None]:
    """Turns what gin raises while it parses a file or bindings into a message for users."""
    try:
        yield
    # What a tokenizer, a parser, an import or a file system raises has nothing else in common.
    except Exception as error:
        raise SpecError(_explanation(error, source)) from None


def _explanation(error: Exception, source: str) -> str:
    if isinstance(error, SyntaxError):
        return _of_syntax(error, source)
    unclosed = re.search(r"\('(.+?)', \((\d+), \d+\)\)", str(error))
    if unclosed:  # a TokenError
        return f"{source}: {unclosed[1]}, line {unclosed[2]}: a bracket or a quote is not closed"
    lines = [line.strip() for line in str(error).splitlines()]
    message = " | ".join(line for line in lines if line.strip("^ "))
    unknown = re.search(r"No configurable matching (?:reference )?'@?([\w./]+)", message)
    if unknown:
        message += _near(unknown[1], _types)
    parameter = re.search(
        r"Configurable '([\w./]+)' doesn't have a parameter named '(\w+)'", message
    )
    if parameter:
        message += _near(parameter[2], _types.get(re.split("[./]", parameter[1])[-1], ()))
    return f"{source}: {message}"


def _of_syntax(error: SyntaxError, source: str) -> str:
    reason = error.msg.splitlines()[-1].strip()
    if "malformed node" in error.msg:
        reason += "; text needs quotes, such as DATASET = 'cifar10'"
    is_file = error.filename and not error.filename.startswith("<")
    place = f"{error.filename if is_file else source}, line {error.lineno}"
    return ": ".join(filter(None, (place, (error.text or "").strip(), reason)))


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 3, cutoff=0.5)
    if near:
        return f" | did you mean {' or '.join(near)}?"
    return f" | known are {', '.join(known)}" if known else ""
