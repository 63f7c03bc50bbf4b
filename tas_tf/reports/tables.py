"""Numbers of a run as people read them: costs, layers, accuracies, times, splits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tas_tf.reports.pages import Table
from tas_tf.reports.run_records import Part, Run
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import LATENCY, CostKind, costs, shown
from tas_tf.spaces.families import BLOCKS
from tas_tf.spaces.layer_rows import LayerRow, side_by_side
from tas_tf.spaces.model_space import ModelArchitecture, ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.callbacks import duration

NONE = "–"
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_ROLES = {"teacher": "unpruned", "student": "derived", "student_kd": "derived, distilled"}


def percent(share: float, digits: int = 2) -> str:
    """Returns a share as people write it, such as 78.87 %, on one line."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def amount(value: float, kind: str) -> str:
    """Returns a cost with its unit where it has one."""
    text = shown(value, kind) + ("B" if kind == "memory" else "")
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def network_name(architecture: Architecture | ModelArchitecture) -> str:
    """Returns what an unpruned network is called, such as ResNet-20."""
    if isinstance(architecture, ModelArchitecture):
        return architecture.family
    units = len(BLOCKS[architecture.block].units)
    return architecture.name or f"ResNet-{units * sum(map(len, architecture.stages)) + 2}"


def described(unpruned: Any, part: Part) -> str:
    """Returns what an unpruned network is: of blocks, built from a description, or a model."""
    name = network_name(unpruned)
    if not isinstance(unpruned, ModelArchitecture):
        return f"{name} of {unpruned.block} blocks"
    if part.setting("own_model.network") == name:
        return f"{name}, built for these images"
    return f"{name}, a model of one's own"


def role(part: Part) -> str:
    """Returns what a trained network is, such as `derived, distilled`."""
    if part.name:
        return _ROLES.get(part.name, part.name)
    origin = (part.architecture and part.architecture.provenance) or {}
    distilled = ", distilled" if part.setting("run_training.teacher") else ""
    if origin.get("origin") == "unpruned":
        return "unpruned" + distilled
    return ("derived" if "derivation" in origin else "trained") + distilled


def unpruned_of(run: Run) -> Any:
    """Returns the unpruned network of a run, where its records tell it."""
    if run.derivation is not None and run.derivation.space is not None:
        return run.derivation.space.unpruned()
    unpruned = [p.architecture for p in run.of_kind("training") if role(p) == "unpruned"]
    return unpruned[0] if unpruned else None


def network_of(run: Run) -> Any:
    """Returns the network that a run is about: what was found, else what was trained."""
    parts = [part for part in (run.derivation, *run.of_kind("training")) if part is not None]
    networks = [p.architecture for p in parts if p.architecture and role(p) != "unpruned"]
    return networks[0] if networks else None


def so_far(run: Run) -> tuple[int, Any] | None:
    """Returns the last epoch of a search that has not finished, and what was most probable then."""
    if run.search is None or run.search.space is None or run.search.architecture is not None:
        return None
    space = run.search.space
    for record in reversed(run.search.records):
        if "argmax_widths" in record:
            candidates = [choice.candidates for choice in space.choices]
            widths, depths = (
                [values.index(value) for values, value in zip(each, record[name], strict=True)]
                for name, each in (("argmax_widths", candidates), ("argmax_depths", space.depths))
            )
            return record["epoch"], space.architecture(widths, depths)
    return None


def comparable(network: Any, unpruned: Any) -> bool:
    """Whether a network can be drawn against the unpruned one: both have the same stages."""
    if unpruned is None or type(network) is not type(unpruned):
        return False
    if isinstance(network, ModelArchitecture):
        return network.space.graph.fingerprint == unpruned.space.graph.fingerprint
    return (network.family, network.block) == (unpruned.family, unpruned.block)


def space_size(space: SearchSpace | ModelSpace) -> str:
    """Returns how many architectures a space has, as a power of ten."""
    sizes = [len(choice.candidates) for choice in space.choices] + [len(d) for d in space.depths]
    # Different widths of blocks that a depth cuts make no different network: an upper bound.
    power = str(round(sum(map(math.log10, sizes))))
    return f"at most 10{power.translate(_SUPERSCRIPTS)}"


def cost_table(networks: Mapping[str, Any], kinds: Mapping[str, CostKind]) -> Table:
    """Returns what networks cost; shares are of the first one's."""
    rows = []
    costs_by_name = {name: costs(network, kinds) for name, network in networks.items()}
    whole = next(iter(costs_by_name.values()))
    for name, values in costs_by_name.items():
        cells = [name]
        for kind, value in values.items():
            share = f" ({percent(value / whole[kind], 1)})" if values is not whole else ""
            cells.append(amount(value, kind) + share)
        rows.append(cells)
    titles = {
        "macs": "MACs",
        "memory": "peak memory of activations, one image",
        LATENCY: "latency by the table",
    }
    header = ["network", *(titles.get(kind, kind) for kind in whole)]
    return Table("What the networks cost", header, rows)


def layer_table(network: Any, unpruned: Any) -> Table:
    """Returns every layer, beside the unpruned network's where that is known."""
    if isinstance(network, ModelArchitecture):
        return _group_table(network)
    beside = unpruned is not None
    # A projection that the unpruned network does not need is in one of them only.
    layers = side_by_side(unpruned or network, network)
    rows = [_layer_cells(name, whole, kept, beside) for name, (whole, kept) in layers.items()]
    header = ["layer", "channels", "MACs", "kernel", "stride", "output"]
    if beside:
        header[1:3] = ["unpruned", "channels", "unpruned MACs", "MACs", "kept"]
    faded = [index for index, (_, kept) in enumerate(layers.values()) if kept is None]
    return Table("Layer by layer", header, rows, faded=faded, folded=True)


def _group_table(network: ModelArchitecture) -> Table:
    """Returns every group of channels of a model of one's own."""
    partition = network.space.graph.partition
    rows = []
    for group in partition.groups:
        each, width = partition.channels_of(group) // group.width, network.widths.get(group.name, 0)
        channels = (str(each * group.width), str(each * width))
        share = percent(width / group.width, 0)
        rows.append([group.name, *channels, share, ", ".join(group.owners[1:]) or NONE])
    header = ["layer", "unpruned", "channels", "kept", "tied to it"]
    return Table("Layer by layer", header, rows, folded=True)


def _layer_cells(
    name: str, whole: LayerRow | None, kept: LayerRow | None, beside: bool
) -> list[str]:
    """Returns the cells of a layer: of the unpruned network where it is `beside`, and of ours."""
    layer = next(row for row in (kept, whole) if row)
    columns = (whole, kept) if beside else (kept,)
    channels = [f"{row.in_channels} → {row.out_channels}" if row else NONE for row in columns]
    macs = [row.macs if row else 0 for row in columns]
    share = "cut" if not kept else percent(macs[-1] / macs[0], 0) if whole else "new"
    return [
        name.replace("_", " "),
        *channels,
        *(f"{value:,}" if value else NONE for value in macs),
        *([share] if beside else []),
        "×".join(map(str, layer.kernel)),
        str(layer.stride),
        f"{layer.height}×{layer.width}",
    ]


def accuracy_table(run: Run) -> Table:
    """Returns what every trained network reaches on the test split."""
    parts = run.of_kind("training")
    results = {role(part): part.result or {} for part in parts}
    # A model of one's own is tested beside what became of it.
    beside = (result["unpruned"] for result in results.values() if "unpruned" in result)
    base = results.get("unpruned") or next(beside, None)
    rows: list[list[str]] = []
    faded: list[int] = []
    if base is not None and all(base is not part.result for part in parts):
        rows.append(_accuracy_cells("unpruned, as it came", base, NONE, NONE))
    for part in parts:
        if part.result is None:
            faded.append(len(rows))
            rows.append([role(part), *[NONE] * 5, "not finished"])
            continue
        gap = NONE
        if base is not None and base is not part.result:
            lead = part.result["test"]["accuracy"] - base["test"]["accuracy"]
            gap = f"{100 * lead:+.2f}"
        epochs = f"{len(part.records) and part.records[-1]['epoch']}"
        rows.append(_accuracy_cells(role(part), part.result, gap, epochs))
    header = ["network", "accuracy", "±", "against unpruned", "MACs", "parameters", "epochs"]
    return Table("Accuracy on the test split", header, rows, faded=faded)


def _accuracy_cells(name: str, result: Mapping[str, Any], gap: str, epochs: str) -> list[str]:
    test, costs = result["test"], result["cost"]
    return [
        name,
        percent(test["accuracy"]),
        f"±{percent(standard_error(test['accuracy'], test['images']))}",
        gap,
        amount(costs["macs"], "macs"),
        amount(costs["parameters"], "parameters"),
        epochs,
    ]


def standard_error(share: float, images: int) -> float:
    """Returns the standard error of a share of so many images."""
    return math.sqrt(max(share * (1 - share), 0) / max(images, 1))


def planned_epochs(part: Part) -> int | None:
    """Returns how many epochs a part was to have."""
    epochs = part.setting(f"run_{part.kind}.epochs")
    return epochs if isinstance(epochs, int) else None


def epochs_text(part: Part) -> str:
    """Returns how far a part is that has not done all its epochs; nothing of others."""
    done, planned = part.records[-1]["epoch"] if part.records else 0, planned_epochs(part)
    return f"So far {done} of {planned} epochs are done." if planned and 0 < done < planned else ""


def time_table(parts: Sequence[Part]) -> Table:
    """Returns wall time and device time of every part; a measurement has no epochs."""
    rows, totals = [], [0.0, 0.0]
    for part in parts:
        last = part.records[-1] if part.records else {}
        planned = planned_epochs(part)
        done = f"{last.get('epoch', 0)}" + (f" of {planned}" if planned else "")
        wall, device = (last.get(f"{name}_seconds", 0.0) for name in ("elapsed", "device"))
        totals = [totals[0] + wall, totals[1] + device]
        step = last.get("seconds_per_step")
        rows.append(
            [
                phase(part),
                done,
                f"{last.get('step', 0):,}",
                f"{1000 * step:,.0f} ms" if step else NONE,
                duration(wall),
                duration(device) if device else NONE,
            ]
        )
        if part.is_measured and part.result is not None:
            measuring = max(part.result["seconds"] - wall, 0.0)
            totals[0] += measuring
            rows.append(["measurement", NONE, NONE, NONE, duration(measuring), NONE])
    if len(rows) > 1:
        rows.append(["in all", "", "", "", duration(totals[0]), duration(totals[1])])
    header = ["phase", "epochs", "steps", "a step, last epoch", "wall time", "device time"]
    return Table("Time of every phase", header, rows)


def artifact_table(manifest: Mapping[str, Any]) -> Table:
    """Returns what was exported: size, accuracy, and agreement with the Keras model."""
    rows = []
    for name, artifact in manifest["artifacts"].items():
        check, accuracy = artifact["check"], artifact["accuracy"]
        rows.append(
            [
                name,
                f"{artifact['bytes']:,}",
                f"{check['largest_relative_difference']:.1e}",
                percent(check["class_agreement"], 1),
                NONE if accuracy is None else percent(accuracy),
            ]
        )
    header = ["artifact", "bytes", "largest difference", "agreement", "test accuracy"]
    caption = (
        "What was exported, compared with the Keras model on real training images: the largest "
        "difference of a logit relative to the largest logit, and how many classes agree"
    )
    return Table(caption, header, rows)


def exported_calls(run: Run) -> list[tuple[str, dict, dict]]:
    """Returns what was timed of exported networks: (format, its speed, a call of it)."""
    return [
        (name, artifact["speed"], call)
        for part in run.parts.values()
        if part.manifest is not None
        for name, artifact in part.manifest["artifacts"].items()
        if artifact["speed"] is not None
        for call in artifact["speed"]["calls"]
    ]


def speed_table(run: Run) -> Table:
    """Returns what calls of the exported network take, beside the unpruned one's."""
    rows = []
    for name, speed, call in exported_calls(run):
        network, unpruned = (call["times"][role]["median_ms"] for role in ("network", "unpruned"))
        rows.append(
            [
                name,
                str(call["batch_size"]),
                str(speed["threads"]),
                f"{network:.3g}\N{NO-BREAK SPACE}ms",
                f"{unpruned:.3g}\N{NO-BREAK SPACE}ms",
                percent(call["share_of_time"], 1),
                f"{1 / call['share_of_time']:.2f}",
            ]
        )
    header = ["artifact", "batch", "threads", "a call", "unpruned", "share", "times as fast"]
    caption = (
        "What a call of the exported network takes, pixels in and logits out, in turn with the "
        "unpruned network exported alike: medians, on the machine that exported"
    )
    return Table(caption, header, rows)


def phase(part: Part) -> str:
    """Returns what a part does, as people say it."""
    return part.kind if part.kind in ("search", "baseline") else f"training: {role(part)}"


def split_table(data: Mapping, kinds: Sequence[str]) -> Table:
    """Returns which images were used for what."""
    # For each part of the data set what each kind of run uses it for.
    uses = {
        "train": {
            "training": "weights of the trained networks",
            "baseline": "weights and gates, by l0",
        },
        "weights": {"search": "weights of the supernet, during the search"},
        "architecture": {
            "search": "widths and depths, during the search",
            "baseline": "measurements, by taylor and sensitivity",
        },
        "holdout": {"training": "accuracy shown during training; no weight, no choice"},
        "test": {"training": "the accuracies of this report, after training"},
    }
    names = {"train": "training set", "weights": "weight half", "architecture": "architecture half"}
    rows = []
    for name, split in data["splits"].items():
        if split["images"]:
            of_kinds = [text for kind, text in uses.get(name, {}).items() if kind in kinds]
            use = "; ".join(of_kinds) or "nothing in this run"
            row = [names.get(name, name), use, f"{split['images']:,}", split["of"]]
            rows.append([*row, split["fingerprint"][:12]])
    header = ["part", "used for", "images", "taken from", "fingerprint"]
    return Table("Parts of the data set", header, rows, left=(1, 3, 4))
