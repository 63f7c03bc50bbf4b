"""A check of imports: those of a package, carried out where only its dependencies are.

Bazel runs it with the package's own files and those that its `deps` give on the path, and nothing
else of tas_tf. An import that waits inside a function is carried out too. The arguments are a file
for the report, and the package's files, relative to the checkout.
"""

import ast
import importlib
import os
import pathlib
import sys
import traceback

from absl import flags

ROOT = pathlib.Path(__file__).parents[1]  # Bazel's copy of the checkout: links stay unresolved

_RULE = (
    "A package sees its own files and those that `deps` in its BUILD.bazel give, which are of "
    "packages that stand before it in tests/project/layering_test.py."
)


def check(path: str) -> int:
    """Imports a file as a module, carries out all of its imports, and returns their number.

    Args:
        path: The file, relative to the checkout.

    Raises:
        ImportError: If one of them is not there.
        RuntimeError: If the module was found elsewhere than among Bazel's files.
    """
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    module = importlib.import_module(name)
    if module.__file__ != str(ROOT / path):
        raise RuntimeError(f"{name} was imported from {module.__file__}, not from {ROOT / path}")
    count = 0
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if "tas_tf" in ast.unparse(node) or ast.unparse(node).startswith("from ."):
            code = compile(ast.Module([node], []), str(ROOT / path), "exec")
            exec(code, {"__package__": module.__spec__.parent})
            count += 1
    # Commands define flags of the same names, and never meet in one process but here.
    for flag in [*flags.FLAGS.flags_by_module_dict().get(name, [])]:
        delattr(flags.FLAGS, flag.name)
    return count


def main(report: str, *paths: str) -> None:
    """Checks the files; the first import that fails ends the process with a message."""
    stderr = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what TensorFlow's libraries say when they start
    try:
        counts = [check(path) for path in paths]
    except ImportError as error:
        sys.exit(f"{_place(error)}: {error}\n{_RULE}")
    finally:
        os.dup2(stderr, 2)
    pathlib.Path(report).write_text(f"{len(counts)} files, {sum(counts)} imports of tas_tf\n")


def _place(error: ImportError) -> str:
    """Returns file and line of the import that failed."""
    top = ROOT / "tas_tf" / "__init__.py"  # which passes on what others ask for
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = pathlib.Path(frame.filename)
        if path.is_relative_to(ROOT / "tas_tf") and path != top:
            return f"{path.relative_to(ROOT)}:{frame.lineno}"
    return "tas_tf"


if __name__ == "__main__":
    main(*sys.argv[1:])
