"""The committed run of docs/examples, to be copied and damaged."""

import pathlib
import shutil

# The records of a real run, without its weights.
EXAMPLE = pathlib.Path(__file__).parents[2] / "docs" / "examples" / "resnet20_cifar10"


RECORDS = sorted(
    str(path.relative_to(EXAMPLE))
    for pattern in ("*.json", "*.jsonl", "*.gin")
    for path in EXAMPLE.rglob(pattern)
)


def copied(folder: pathlib.Path) -> pathlib.Path:
    for record in RECORDS:
        (folder / record).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(EXAMPLE / record, folder / record)
    return folder
