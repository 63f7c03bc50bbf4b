"""Helpers that benchmarks share: the machine, times in turn, peak memory, tables and JSON."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tas_tf.deployment.runners import in_turn
from tas_tf.runtime import devices, files

# Instruction sets that decide how fast a convolution is, as Linux names them.
_INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")
_INSTRUCTIONS += ("asimd", "bf16", "sve")


@dataclasses.dataclass(frozen=True)
class Times:
    """What one step took.

    Args:
        first_s: Seconds of the first call, which traces.
        median_ms: Median of the later calls, in milliseconds.
        lower_ms: Their lower quartile.
        upper_ms: Their upper quartile.
    """

    first_s: float
    median_ms: float
    lower_ms: float
    upper_ms: float


def interleaved(
    steps: Mapping[str, Callable[[], object]], repeats: int, warm: int = 2
) -> dict[str, Times]:
    """Measures steps in turn.

    Args:
        steps: Name to what is measured; a call returns when its work is done.
        repeats: Number of rounds, at least two.
        warm: Number of calls after the first that are not counted.
    """
    measured = {}
    for name, times in in_turn(steps, 1 + warm + repeats).items():
        lower, median, upper = np.percentile(times[1 + warm :], (25, 50, 75)).tolist()
        measured[name] = Times(float(times[0]) / 1e3, median, lower, upper)
    return measured


def peak_memory(arguments: Sequence[str]) -> float:
    """Returns the peak resident memory, in MiB, of a fresh Python process.

    Args:
        arguments: What follows `python`, such as a script and its flags.

    Raises:
        subprocess.CalledProcessError: If the process fails.
    """
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return _mib(usage.ru_maxrss)


def own_peak_memory() -> float:
    """Returns this process' peak resident memory so far, in MiB."""
    return _mib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _mib(maxrss: int) -> float:
    # Linux counts kibibytes, macOS bytes.
    return maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def machine() -> dict[str, Any]:
    """Returns processor, instruction sets, cores, memory, devices and versions."""
    facts = devices.processor_facts()
    flags = facts.get("flags", facts.get("Features", "")).split()
    return {
        "processor": devices.processor_name(),
        "instruction_sets": [name for name in _INSTRUCTIONS if name in flags],
        "system": platform.platform(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        **devices.describe_machine(),
    }


def describe(machine: Mapping[str, Any]) -> str:
    """Returns a line about the machine, for people."""
    versions = machine["versions"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB "
        f"({', '.join(machine['instruction_sets']) or 'instruction sets unknown'}); "
        f"TensorFlow {versions['tensorflow']}, Keras {versions['keras']}, "
        f"Python {versions['python']}"
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a Markdown table: keys as titles, floats with three digits, `-` where it has none."""

    def line(cells):
        return "| " + " | ".join(cells) + " |"

    def shown(value):
        if not isinstance(value, float):
            return str(value)
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

    titles = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    body = [line(shown(row.get(title, "-")) for title in titles) for row in rows]
    return "\n".join([line(titles), line(["---"] * len(titles)), *body])


def parser(description: str) -> argparse.ArgumentParser:
    """Returns a command line with `--json`."""
    arguments = argparse.ArgumentParser(description=description.splitlines()[0])
    arguments.add_argument("--json", metavar="PATH", help="also write the figures to this file")
    return arguments


def report(rows: Sequence[Mapping[str, Any]], path: str | None, **more: Any) -> None:
    """Prints the machine and the table; writes both as JSON where a path is given.

    Args:
        rows: One for each line, plain data.
        path: The JSON file, or None.
        **more: Further entries of the file, plain data.
    """
    described = machine()
    print(f"{describe(described)}\n\n{table(rows)}", flush=True)
    if path is not None:
        content = {"machine": described, **more, "rows": list(rows)}
        files.write_whole(path, json.dumps(content, indent=2) + "\n")
