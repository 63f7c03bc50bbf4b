#!/usr/bin/env python3
"""Counts what architecture files cost: MACs, parameters and peak bytes of activations, a line each.

tools/count_costs.py specs/architectures/*.json
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tas_tf.errors import EXIT_DONE, EXIT_USER_ERROR, UserError
from tas_tf.spaces.cost import KINDS, costs
from tools.show_architecture import aligned, load, printable, show


def main() -> int:
    """Prints what the command line asks for and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", metavar="FILE", nargs="+", help="an architecture.json")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    arguments = parser.parse_args()
    try:
        counted = {file: costs(load(file)) for file in arguments.files}
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    rows = [("file", *KINDS)]
    for file, values in counted.items():
        rows.append((printable(file), *map("{:,}".format, values.values())))
    show(
        [json.dumps(counted, indent=1)] if arguments.json else aligned(rows, "<" + ">" * len(KINDS))
    )
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
