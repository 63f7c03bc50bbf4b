"""Runs every variant of the search for some epochs on CIFAR-10, and prints one line for each.

    python benchmarks/variants.py --data_dir=~/tensorflow_datasets --runs=runs/variants

Variants that start from a trained network need `--teacher`, the run directory of an unpruned
ResNet-20 (`python -m tas_tf.train --gin_file=specs/resnet20.gin ...`). A fifth of the training set
is used, ResNet-20, batch 128; a run that is there already is not repeated.
"""

import argparse
import json
import pathlib
import subprocess
import sys

COMMON = [
    "SEARCH_EPOCHS = {epochs}",
    "BATCH_SIZE = 128",
    "ARCH_LEARNING_RATE = 0.05",
    "linear_temperature.start = 2.0",
    "ImageData.holdout = 0.8",
]
FROM_TEACHER = "run_search.start_from = '{teacher}'"
PAD = "AGGREGATION = 'pad'"
COSINE = ["run_search.temperature = @cosine_temperature()"]
VARIANTS = {
    "paper: interpolation, two drawn": [],
    "zero padding": [PAD],
    "width only": [PAD, "SEARCH = 'width'"],
    "depth only": [PAD, "SEARCH = 'depth'"],
    "all candidates, Gumbel weights": [PAD, "Supernet.strategy = 'gumbel'"],
    "all candidates, softmax (DARTS)": [PAD, "Supernet.strategy = 'softmax'"],
    "one, straight-through (GDAS)": [PAD, "Supernet.strategy = 'straight_through'"],
    "cosine temperature from 5": [PAD, *COSINE],
    "published code's cost formulas": [PAD, "run_search.cost_formula = 'published'"],
    "frozen stem": [PAD, "resnet.frozen = ('stem',)"],
    "frozen stage 3": [PAD, "resnet.frozen = ('stage3',)"],
    "tied residual streams": [PAD, "resnet.tie_streams = True"],
    "width divisor 8": [PAD, "resnet.width_divisor = 8"],
    "warm-up of the weights": [PAD, "run_search.weight_warmup_epochs = 1"],
    "start from the trained network": [PAD, FROM_TEACHER],
    "the same, with interpolation": [FROM_TEACHER],
    "the same, channels by importance": [
        PAD,
        FROM_TEACHER,
        "run_search.order_by_importance = True",
    ],
    "budget of parameters": [PAD, "TARGET = 'parameters: 0.5'"],
    "budget of memory": [PAD, "TARGET = 'memory: 0.7'"],
    "budgets of MACs and parameters": [PAD, "TARGET = ['macs: 0.5', 'parameters: 0.5']"],
}


def run(name: str, bindings: list[str], arguments: argparse.Namespace) -> pathlib.Path:
    """Runs one search, unless it is there; returns its run directory."""
    slug = "".join(c if c.isalnum() else "_" for c in name)
    folder = pathlib.Path(arguments.runs).expanduser() / slug
    if (folder / "result.json").exists():
        return folder
    values = {"epochs": arguments.epochs, "teacher": arguments.teacher}
    command = [sys.executable, "-m", "tas_tf.search", "--gin_file=specs/resnet20.gin"]
    command += [f"--gin_bindings={b.format(**values)}" for b in [*COMMON, *bindings]]
    command += [f"--data_dir={arguments.data_dir}", f"--run_dir={folder}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        sys.exit(f"{name}: {done.stderr}")
    return folder


def line(name: str, folder: pathlib.Path) -> str:
    """Returns the table's line of a finished search."""
    result = json.loads((folder / "result.json").read_text())
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    costs = ", ".join(
        f"{kind} {b['cost'] / b['unpruned']:.1%} (argmax {b['argmax_cost'] / b['unpruned']:.1%})"
        for kind, b in result["derivation"]["budgets"].items()
    )
    entropies = [result.get(key) for key in ("width_entropy", "depth_entropy")]
    shown = " / ".join("-" if value is None else f"{value:.2f}" for value in entropies)
    decided = "no" if max(value for value in entropies if value is not None) > 0.9 else "yes"
    return (
        f"| {name} | {last['accuracy']:.1%} | {last.get('architecture_accuracy', 0):.1%} | {shown} "
        f"| {decided} | {costs} | {'yes' if result['derivation']['in_band'] else 'no'} "
        f"| {result['seconds']:.0f} s |"
    )


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", default="~/tensorflow_datasets")
    parser.add_argument("--runs", default="runs/variants", help="folder of the runs")
    parser.add_argument("--teacher", help="run directory of the trained unpruned ResNet-20")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    columns = ("variant", "accuracy, weight half", "architecture half", "entropy, width / depth")
    columns += ("told apart", "derived", "in band", "time")
    print("| " + " | ".join(columns) + " |\n" + "| --- " * len(columns) + "|")
    for name, bindings in VARIANTS.items():
        if arguments.teacher is None and any("{teacher}" in b for b in bindings):
            continue
        print(line(name, run(name, bindings, arguments)), flush=True)


if __name__ == "__main__":
    main()
