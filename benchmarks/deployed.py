"""Measures what an export with a budget of 55 % of the MACs gives in the runtimes that serve it.

    python benchmarks/deployed.py --network resnet20 --runtime litert --batch_size 1 --threads 1

One cell of a table: the unpruned network and one that keeps 55 % of its MACs (`derived/`; for
ResNet-18 all widths are narrowed alike), with the widths that `--align` may give it, in turn.
Weights are random, pixels too.
"""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring

from tas_tf import alignment, runtimes
from tas_tf.architecture import Architecture
from tas_tf.cost import cost
from tas_tf.search_space import SearchSpace
from tas_tf.spec_compiler import build_model

DERIVED = pathlib.Path(__file__).parent / "derived"
NETWORKS = ("resnet20", "resnet56", "resnet18")
SHARE = 0.55


def unpruned(network: str) -> Architecture:
    """Returns the unpruned network: CIFAR's shapes, but ResNet-18 for images of 224x224."""
    if network == "resnet18":
        return SearchSpace.resnet(18, 1000, family="imagenet_resnet").unpruned()
    return SearchSpace.resnet(int(network.removeprefix("resnet")), 10).unpruned()


def narrowed(architecture: Architecture) -> Architecture:
    """Returns a network of the same depths that keeps just below SHARE, all widths odd ones out."""
    ratio, found = 1.0, architecture
    while cost(found) > SHARE * cost(architecture):
        ratio -= 0.005
        found = architecture.replace(
            stem_width=round(ratio * architecture.stem_width),
            stages=tuple(
                tuple(tuple(round(ratio * width) for width in block) for block in stage)
                for stage in architecture.stages
            ),
            cost=None,
        )
    return found


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="resnet20")
    parser.add_argument("--runtime", choices=runtimes.RUNTIMES, default="saved_model")
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=15.0)
    flags = parser.parse_args()
    runtimes.use_threads(flags.threads)
    whole = unpruned(flags.network)
    file = DERIVED / f"{flags.network}.json"
    small = Architecture.from_json(file.read_text()) if file.exists() else narrowed(whole)
    model = build_model(small)
    networks = {"unpruned": (build_model(whole), cost(whole))}
    for grain in alignment.GRAINS:
        wide = alignment.aligned(model, small, grain)
        networks[f"55 %, align {grain}"] = wide, alignment.aligned_macs(small, grain)
    images = runtimes.random_images(model, flags.batch_size)
    runners = {
        name: runtimes.runner(network, flags.runtime, flags.batch_size, flags.threads)
        for name, (network, _) in networks.items()
    }
    for runner in runners.values():
        runner.load(images)
    times = runtimes.timed({name: r.run for name, r in runners.items()}, flags.seconds)
    rows = [
        {
            "network": f"{flags.network} {name}",
            "runtime": flags.runtime,
            "batch": flags.batch_size,
            "threads": flags.threads,
            "MACs": networks[name][1] / cost(whole),
            "median ms": found.median_ms,
            "p90 ms": found.p90_ms,
            "times faster": times["unpruned"].median_ms / found.median_ms,
        }
        for name, found in times.items()
    ]
    measuring.report(rows, flags.json)


if __name__ == "__main__":
    main()
