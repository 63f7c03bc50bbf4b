"""Measures what a search within 55 % of the MACs delivers in the runtimes that serve it.

    python benchmarks/deployed.py --threads 1
    python benchmarks/deployed.py --threads 2 --network resnet20 --runtime litert --batch_size 1

One line for a network, a runtime and a batch: how many times as fast as the unpruned network is one
with 55 % of its MACs, as it is and with the widths that `--align` gives it, and one of a space with
`width_divisor = 8`. All are timed in turn. What is delivered depends on the search: these are the
networks that the derivation takes for logits at random (seed 0), as a search has them at its start.
Weights and pixels are random.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring
import numpy as np

from tas_tf.deployment import alignment, formats, runners
from tas_tf.models.spec_compiler import build_model
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import cost, parse_targets
from tas_tf.spaces.derivation import derive
from tas_tf.spaces.search_space import SearchSpace

SPACES = {
    "resnet20": {"depth": 20},
    "resnet56": {"depth": 56},
    "resnet18": {"depth": 18, "num_classes": 1000, "family": "imagenet_resnet"},
}
SHARE, TOLERANCE = 0.55, 0.05
SERVING = ("saved_model", "litert", "litert_int8")


def delivered(space: SearchSpace) -> Architecture:
    """Returns the network within the budget that logits at random make most probable."""
    random = np.random.default_rng(0)
    widths = random.normal(size=(len(space.choices), max(len(c.candidates) for c in space.choices)))
    depths = random.normal(size=(len(space.depths), max(map(len, space.depths))))
    return derive(space, widths, depths, parse_targets(SHARE, space, TOLERANCE)).architecture


def networks(name: str) -> dict:
    """Returns models and their MACs by name, the unpruned network first."""
    space = SearchSpace.resnet(**SPACES[name])
    whole, small = space.unpruned(), delivered(space)
    eights = delivered(SearchSpace.resnet(**SPACES[name], width_divisor=8))
    model = build_model(small)
    found = {"unpruned": (build_model(whole), cost(whole))}
    for grain in alignment.GRAINS:
        title = "as it is" if grain == 1 else f"align {grain}"
        wide = alignment.align_widths(model, small, grain)
        found[title] = wide, alignment.aligned_macs(small, grain)
    return found | {"divisor 8": (build_model(eights), cost(eights))}


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--network", choices=SPACES, nargs="+", default=list(SPACES))
    parser.add_argument("--runtime", choices=formats.RUNTIMES, nargs="+", default=SERVING)
    parser.add_argument("--batch_size", type=int, nargs="+", default=(1, 32))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0)
    flags = parser.parse_args()
    runners.use_threads(flags.threads)
    rows, macs = [], {}
    for network in flags.network:
        found = networks(network)
        models = {name: model for name, (model, _) in found.items()}
        whole = found["unpruned"][1]
        macs[network] = {name: each / whole for name, (_, each) in found.items()}
        for runtime in flags.runtime:
            for batch_size in flags.batch_size:
                times = runners.time_models(
                    models, runtime, batch_size, flags.threads, flags.seconds
                )
                unpruned = times["unpruned"].median_ms
                row = {"network": network, "runtime": runtime, "batch": batch_size}
                row |= {"threads": flags.threads, "unpruned ms": unpruned}
                row |= {n: f"{unpruned / t.median_ms:.2f}" for n, t in times.items()}
                del row["unpruned"]
                rows.append(row)
                print(row, flush=True)
    for network, shares in macs.items():
        said = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        print(f"{network}, MACs: {said}")
    measuring.report(rows, flags.json, macs=macs)


if __name__ == "__main__":
    main()
