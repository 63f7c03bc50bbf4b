#!/usr/bin/env python3
"""Writes docs/commands.md and docs/spec.md from the commands' help, the code and the presets."""

from __future__ import annotations

import argparse
import configparser
import inspect
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import docstring_parser

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

# What specs bind is registered when experiments is imported.
from tas_tf.config import gin_config
from tas_tf.experiments import registry  # noqa: F401

ROOT = pathlib.Path(__file__).resolve().parents[1]
COMMANDS, SPEC = ROOT / "docs" / "commands.md", ROOT / "docs" / "spec.md"
MADE = "<!-- Made by tools/reference.py from the code: change it there, and run that. -->"
# What commands give, and no spec.
GIVEN = ("run_dir", "dry_run", "profile_steps")
PRESETS = ("quickstart", "resnet20", "resnet110", "resnet50")


def commands_page() -> Iterator[str]:
    """Yields the lines of the page of commands: what each one's `--help` says."""
    yield from ("# Commands", "", MADE, "")
    yield "A command is `python -m tas_tf.NAME`, or `tas-NAME` where the package is installed."
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for line in config["options.entry_points"]["console_scripts"].split("\n"):
        if line:
            yield from _command(re.search(r"tas_tf\.(\w+):run", line)[1])


def _command(name: str) -> Iterator[str]:
    asked = [sys.executable, "-m", f"tas_tf.{name}", "--help"]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    about, flags = told.split("\nFlags:\n")
    yield from ("", f"## {name}", "")
    for part in about.strip().split("\n\n"):
        is_command = part.startswith("python -m")
        yield from ("```sh", part, "```", "") if is_command else (part, "")
    yield from ("```text", flags.rstrip(), "```")


def spec_page() -> Iterator[str]:
    """Yields the lines of the page of settings: every binding, its default and its meaning."""
    yield from ("# What a spec can say", "", MADE, "")
    yield (
        "A spec is a [gin](https://github.com/google/gin-config) file: an include of a preset, and "
        "lines that differ from it. A line binds a parameter (`run_search.epochs = 100`) or a "
        "macro that presets use for several (`EPOCHS = 100`). `--gin_bindings='EPOCHS = 100'` does "
        "the same from the command line, and wins. A parameter that does not exist, a macro that "
        "nothing uses and a value of a wrong type are refused by file and line."
    )
    yield from _macros()
    for name, function in sorted(gin_config.registered.items(), key=lambda item: item[0].lower()):
        yield from _parameters(name, function)


def _macros() -> Iterator[str]:
    uses: dict[str, list[str]] = {}
    for file in ("base/method", "base/cifar", "base/imagenet"):
        for name, value in _bindings(file).items():
            if value.startswith("%") and name not in uses.setdefault(value[1:], []):
                uses[value[1:]].append(name)
    presets = {name: _bindings(name) for name in PRESETS}
    yield from ("", "## Macros", "", "What presets have at their top.", "")
    yield from _row("macro", *(f"{name}.gin" for name in PRESETS), "sets")
    yield from _row(*["---"] * (len(PRESETS) + 2))
    for macro, names in uses.items():
        values = [_code(bindings.get(macro)) for bindings in presets.values()]
        yield from _row(_code(macro), *values, ", ".join(map(_code, names)))


def _bindings(spec: str) -> dict[str, str]:
    """Returns the bindings of a preset, those of its includes before its own."""
    bindings: dict[str, str] = {}
    for line in (ROOT / "specs" / f"{spec}.gin").read_text().splitlines():
        include = re.match(r"include 'specs/(.+)\.gin'", line)
        if include:
            bindings |= _bindings(include[1])
        binding = re.match(r"([\w.]+) = (.+?)\s*(?:  #.*)?$", line)
        if binding:
            bindings[binding[1]] = binding[2]
    return bindings


def _parameters(name, function) -> Iterator[str]:
    described = docstring_parser.parse(inspect.getdoc(function), docstring_parser.Style.GOOGLE)
    meanings = {param.arg_name: " ".join(param.description.split()) for param in described.params}
    bound = _bindings("base/method")
    yield from ("", f"## {name}", "", described.short_description, "")
    yield from _row("binding", "type", "default", "in presets", "meaning")
    yield from _row(*["---"] * 5)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in GIVEN:
            binding = f"{name}.{parameter.name}"
            needed = parameter.default is parameter.empty
            default = "must be given" if needed else _code(repr(parameter.default))
            kind = _code(gin_config.type_of(name, parameter.name))
            preset = _code(bound.get(binding))
            yield from _row(_code(binding), kind, default, preset, meanings[parameter.name])


def _row(*cells: str) -> Iterator[str]:
    yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _code(text: str | None) -> str:
    return "" if text is None else f"`{text}`"


def main() -> int:
    """Writes the pages, or says which are stale; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is stale")
    check = parser.parse_args().check
    stale = 0
    for path, lines in ((COMMANDS, commands_page()), (SPEC, spec_page())):
        text = "\n".join(lines) + "\n"
        if path.exists() and path.read_text() == text:
            continue
        if check:
            print(f"{path.relative_to(ROOT)} is stale: run tools/reference.py", file=sys.stderr)
            stale = 1
        else:
            path.write_text(text)
    return stale


if __name__ == "__main__":
    sys.exit(main())
