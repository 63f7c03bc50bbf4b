"""Compares the solver of terms with the dynamic programme on the spaces of ResNets.

    python benchmarks/term_solver.py
    python benchmarks/term_solver.py --seeds=5 --kind=parameters

One line for each problem: a space, random logits N(0, 0.5^2), and a budget as a share of the
unpruned network. Regret is the log-probability that the budget takes, in nats; the gap is how far
at most the best lies below; seconds are of the processor.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tas_tf.spaces.cost import parse_targets
from tas_tf.spaces.derivation import derive
from tas_tf.spaces.exchanges import Band
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.spaces.space_terms import choices_of, cost_of
from tas_tf.spaces.term_solver import solve

DEPTHS = {20: "cifar_resnet", 56: "cifar_resnet", 110: "cifar_resnet", 50: "imagenet_resnet"}
MODES = {"width": {"search": "width"}, "shape": {}, "tied": {"tie_streams": True}}
SHARES = (0.2, 0.5, 0.72)


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Returns a result and the seconds of the processor that it took."""
    start = time.process_time()
    return function(), time.process_time() - start


def compared(space: SearchSpace, seed: int, kind: str, share: float) -> tuple[str, float]:
    """Returns the line of a problem, and how much larger the regret of the terms' solution is."""
    choices, widths = choices_of(space), len(space.choices)
    random = np.random.default_rng(seed)
    logits = [random.normal(0, 0.5, len(choice.candidates)) for choice in choices]
    (budget,) = parse_targets(f"{kind}: {share}", space)
    derived, chain_s = timed(lambda: derive(space, logits[:widths], logits[widths:], [budget]))
    lost = derived.argmax_log_probability - derived.log_probability
    cost, built_s = timed(lambda: cost_of(space, budget.kind))
    bands = [Band.of(cost, budget)]
    found, solved_s = timed(lambda: solve([row.max() - row for row in logits], bands))
    line = f"| {share} | {seed} | {lost:.4f} | {derived.optimality_gap:.4f} | {chain_s:.2f} | "
    line += f"{found.regret:.4f} | {found.optimality_gap:.4f} | {built_s:.2f} + {solved_s:.2f} |"
    return line, found.regret - lost


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kind", default="macs", choices=["macs", "parameters"])
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, NumPy {np.__version__}, {arguments.kind}")
    print("| space | budget | seed | chain: regret | gap | s | terms: regret | gap | s |")
    print("| --- " * 9 + "|")
    more = []
    for depth, family in DEPTHS.items():
        for mode, options in MODES.items():
            space = SearchSpace.resnet(depth, family=family, **options)
            for share in SHARES:
                for seed in range(arguments.seeds):
                    line, difference = compared(space, seed, arguments.kind, share)
                    more.append(difference)
                    print(f"| ResNet-{depth} {mode} {line}", flush=True)
    more = np.array(more)
    print(
        f"{len(more)} problems: {(more < -1e-4).sum()} better by up to {-more.min():.4f} nats, "
        f"{(more > 1e-4).sum()} worse by up to {more.max():.4f}, the others equal to 1e-4"
    )


if __name__ == "__main__":
    main()
