"""The sections of a run's report: request, result, course of the search, accuracy and time."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tas_tf.reports import curve_plots, model_plots, shape_plots
from tas_tf.reports.pages import Code, Element, Facts, Items, Picture, Section, Table, Text
from tas_tf.reports.run_records import Part, Run
from tas_tf.reports.search_section import search_section
from tas_tf.reports.tables import (
    accuracy_table,
    amount,
    artifact_table,
    comparable,
    cost_table,
    described,
    exported_calls,
    layer_table,
    network_name,
    network_of,
    percent,
    phase,
    role,
    so_far,
    space_size,
    speed_table,
    split_table,
    time_table,
    unpruned_of,
)
from tas_tf.spaces import derivation, latency_table
from tas_tf.spaces.cost import cost, name_of
from tas_tf.spaces.model_space import ModelArchitecture


def sections(run: Run) -> list[Section]:
    """Returns the sections of a run's report; those that have nothing to say are empty."""
    return [
        Section("What is missing", [Items(run.missing)] if run.missing else []),
        Section("What was asked", list(_request(run))),
        Section("What was found", list(_result(run))),
        Section("How the search went", list(search_section(run))),
        Section("What it gives", list(_accuracy(run))),
        Section("What it took", list(_effort(run))),
        Section("Which images were used for what", list(_images(run))),
        Section("How to repeat it", list(_repetition(run))),
    ]


def _request(run: Run) -> Iterator[Element]:
    facts: dict[str, str] = {}
    part = run.derivation or next(iter(run.of_kind("training")), None)
    if part is None:
        return
    unpruned = unpruned_of(run)
    if unpruned is not None:
        facts["Unpruned network"] = (
            f"{described(unpruned, part)}, {amount(cost(unpruned), 'macs')} MACs"
        )
    if part.data is not None:
        size = "×".join(map(str, part.data["input_shape"]))
        facts["Images"] = f"{part.data['dataset']}, {size}, {part.data['num_classes']} classes"
    if run.derivation is not None:
        facts |= _budget_facts(run.derivation)
    if run.search is not None:
        facts |= _search_facts(run.search)
    for each in run.of_kind("training"):
        values = _settings_text(each, "training", epochs="epochs", batch_size="batch", seed="seed")
        facts[phase(each).capitalize()] = ", ".join(
            filter(None, [values, _distillation_text(each)])
        )
    yield Facts({name: value for name, value in facts.items() if value})


def _budget_facts(part: Part) -> dict[str, str]:
    space = part.space
    facts = {}
    for budget in part.budgets:
        name = budget.kind.name
        band = f"{amount(budget.floor, name)} to {amount(budget.amount, name)}"
        share = percent(budget.amount / budget.unpruned, 1)
        facts[f"Budget of {name_of(name)}"] = f"{band}; at most {share} of the unpruned"
    if part.latency is not None:
        error = part.latency.error
        facts["Latency"] = (
            f"{part.latency.described()}; whole networks differ from the table by "
            f"{percent(error['mean'], 1)} on average ({error['networks']} networks), "
            f"{percent(error['largest'], 1)} at most"
        )
    if space is not None:
        widths = sum(len(choice.candidates) > 1 for choice in space.choices)
        depths = sum(len(stage) > 1 for stage in space.depths)
        name = "Searched" if part.kind == "search" else "Space"
        facts[name] = f"{widths} widths and {depths} depths: {space_size(space)} networks"
    return facts


def _search_facts(search: Part) -> dict[str, str]:
    measured = search.is_measured
    supernet = {
        name: search.setting(f"Supernet.{setting}")
        for name, setting in {
            "aggregation": "aggregation",
            "streams": "streams",
            "normalization": "normalization",
            "drawing": "strategy",
            "precision": "dtype",
        }.items()
    }
    if measured:
        supernet["drawing"] = "random paths"
    facts = {}
    facts["Supernet"] = ", ".join(f"{name} {value}" for name, value in supernet.items() if value)
    of_gradients = {
        "weight_warmup_epochs": "epochs of weights alone",
        "cost_weight": "weight of the cost",
    }
    names = {"epochs": "epochs", "batch_size": "batch", **({} if measured else of_gradients)}
    facts["Search"] = _settings_text(search, "search", **names, seed="seed")
    if measured:
        counts = {
            "random paths": search.setting("Measurement.paths"),
            "near the budget": search.setting("Measurement.near"),
            "finalists": search.setting("Measurement.finalists"),
            "weight of capacity": search.setting("Measurement.capacity"),
            "weight of streams": search.setting("Measurement.streams"),
        }
        facts["Measurement"] = ", ".join(
            f"{name} {value}" for name, value in counts.items() if value is not None
        )
    return facts


def _settings_text(part: Part, kind: str, **names: str) -> str:
    values = {label: part.setting(f"run_{kind}.{name}") for name, label in names.items()}
    return ", ".join(
        f"{label} {value}" for label, value in values.items() if value or label == "seed"
    )


def _distillation_text(part: Part) -> str:
    if not part.setting("run_training.teacher"):
        return ""
    weight = part.setting("run_training.distillation_alpha")
    temperature = part.setting("run_training.distillation_temperature")
    return f"learns from the unpruned network (weight {weight}, temperature {temperature})"


def _result(run: Run) -> Iterator[Element]:
    network, unpruned, latest = network_of(run), unpruned_of(run), so_far(run)
    networks = {} if unpruned is None else {f"{network_name(unpruned)}, unpruned": unpruned}
    if network is not None:
        networks["derived" if run.derivation else network_name(network)] = network
    elif latest is not None:
        network = networks["most probable so far"] = latest[1]
        yield Text(
            "The search has not finished: this is the network that was most probable after epoch "
            f"{latest[0]}, whatever it costs."
        )
    against = unpruned if network is not None and comparable(network, unpruned) else None
    shown = network or unpruned
    if shown is None:
        return
    yield _architecture_picture(shown, against)
    if run.derivation is not None and run.derivation.result is not None:
        yield Text(_derivation_text(run.derivation.result["derivation"]))
    if run.search is not None:
        networks |= {f"derived for {name}": each for name, each in run.search.derived.items()}
    table = run.derivation.latency if run.derivation else None
    yield cost_table(networks, latency_table.kinds(table))
    latency = (
        "Latency is the sum of layers that were measured on their own: python -m tas_tf.measure "
        "measures whole networks."
        if table
        else "Fewer MACs are not always fewer milliseconds: "
        + (
            "what exported networks take stands below."
            if exported_calls(run)
            else "latency was not measured in this run."
        )
    )
    yield Text(
        "MACs count a multiplication and an addition together once (papers often say FLOPs). "
        + latency
    )
    yield layer_table(shown, against)


def _architecture_picture(network: Any, unpruned: Any) -> Picture:
    if isinstance(network, ModelArchitecture):
        kept = percent(cost(network) / cost(network.space.unpruned()), 1)
        return Picture(
            "architecture",
            model_plots.draw_kept(network),
            "The network",
            "Each bar is a group of channels that are kept or dropped together, named by the first "
            "layer that makes them; blue is kept, the outline is the unpruned model."
            + f" Branches that are left out: {len(network.left_out)}."
            * bool(network.left_out),
            f"Shares of the channels of {network.family} that are kept, with {kept} of its MACs."
            + (f" Left out: {', '.join(network.left_out)}." if network.left_out else ""),
        )
    depths = [len(stage) for stage in network.stages]
    description = f"Widths of the layers of a network with {depths} blocks in its stages"
    caption = "Each bar is a layer, the first one the stem; its height is its number of channels."
    if unpruned is not None:
        share = percent(cost(network) / cost(unpruned), 1)
        description += f", which has {share} of the unpruned network's MACs"
        caption += (
            " The outline is the unpruned network. Look for where the blue falls short of it "
            "(narrower layers) and for hatched blocks (cut); stages have scales of their own."
        )
    figure = shape_plots.draw_architecture(network, unpruned)
    return Picture("architecture", figure, "The network", caption, description + ".")


def _derivation_text(summary: Mapping[str, Any]) -> str:
    texts = []
    for kind, budget in summary["budgets"].items():
        where = "inside" if budget["floor"] <= budget["cost"] <= budget["amount"] else "OUTSIDE"
        texts.append(
            f"It has {amount(budget['cost'], kind)} {name_of(kind)}, "
            f"{percent(budget['cost'] / max(budget['unpruned'], 1), 1)} of the unpruned network's, "
            f"{where} the budget's band of {amount(budget['floor'], kind)} to "
            f"{amount(budget['amount'], kind)}."
        )
    if "is_argmax" not in summary:
        texts.append(f"It was found by {summary['method']}.")
    else:
        texts.append(_argmax_text(summary))
    if not summary["in_band"]:
        texts.append("No network was found in the band: this is the nearest below.")
    return " ".join(texts)


def _argmax_text(summary: Mapping[str, Any]) -> str:
    """Says how the network that was derived differs from the best at any cost."""
    measured = summary.get("method") in derivation.MEASURED
    best = "of the least expected loss" if measured else "the most probable"
    if summary["is_argmax"]:
        return f"It is the network {best} of all." if measured else f"It is {best} network of all."
    costs = " and ".join(
        f"{amount(budget['argmax_cost'], kind)} {name_of(kind)}"
        for kind, budget in summary["budgets"].items()
    )
    regret = summary["argmax_log_probability"] - summary["log_probability"]
    if measured:
        return (
            f"The network of the least expected loss of all has {costs}; the one found had the "
            f"least measured loss of the finalists within the budget (its expected loss is "
            f"{regret:.4f} higher)."
        )
    return (
        f"The most probable network of all has {costs}; the one found is the most probable "
        f"within the budget (its log-probability is {regret:.2f} lower)."
    )


def _accuracy(run: Run) -> Iterator[Element]:
    trainings = run.of_kind("training")
    if not trainings:
        return
    yield accuracy_table(run)
    yield Text(
        "± is the standard error of a share of so many test images, not the spread between seeds: "
        "each network was trained once. “Against unpruned” is in percentage points. The network "
        "tested is that of the last epoch: no epoch was chosen."
    )
    curves = {role(part): part.records for part in trainings if part.records}
    if curves:
        ends = ", ".join(
            f"{name} {percent(records[-1]['accuracy'], 1)}"
            for name, records in curves.items()
            if "accuracy" in records[-1]
        )
        yield Picture(
            "trainings",
            curve_plots.draw_trainings(curves),
            "Training",
            "How fast each network learns its augmented training images. With distillation this "
            "accuracy often stays lower while that on the test split is higher.",
            f"Accuracy on training images by epoch, at the end: {ends}.",
        )
    for part in run.parts.values():
        if part.manifest is not None:
            yield artifact_table(part.manifest)
    if exported_calls(run):
        yield speed_table(run)


def _effort(run: Run) -> Iterator[Element]:
    parts = [part for part in run.parts.values() if part.records]
    if not parts:
        return
    yield time_table(parts)
    machine = next((part.machine for part in parts if part.machine), None)
    accelerated = machine is not None and any("GPU" in name for name in machine["devices"])
    device = (
        "the time that all accelerators were held"
        if accelerated
        else "processor time of all threads"
    )
    measured = any(part.is_measured for part in parts)
    yield Text(
        f"Times are those of the epochs{', and of what was measured' * measured}, interruptions "
        f"left out, and without start-up, test and export. Device time is {device}."
    )
    if machine is not None:
        names = machine.get("device_names") or machine["devices"]
        yield Facts(
            {
                "Devices": f"{len(machine['devices'])}: {', '.join(map(str, names))}",
                "Processor cores": str(machine["cores"]),
            }
        )


def _images(run: Run) -> Iterator[Element]:
    recorded = [(part, part.data) for part in run.parts.values() if part.data is not None]
    if not recorded:
        return
    _, first = recorded[0]
    yield split_table(first, [part.kind for part, _ in recorded])
    yield Items(list(_split_notes(run, recorded)))


def _split_notes(run: Run, recorded: list[tuple[Part, dict[str, Any]]]) -> Iterator[str]:
    splits = [data["splits"] for _, data in recorded]
    if any(each != splits[0] for each in splits):
        yield "The parts of this run recorded DIFFERENT splits: their accuracies do not compare."
    elif len(recorded) > 1:
        yield "All parts of this run recorded the same splits: their fingerprints agree."
    if "test" in splits[0]:
        yield (
            f"The {splits[0]['test']['images']:,} test images played no part in the search, nor in "
            "the choice of an architecture or of an epoch."
        )
        if run.of_kind("training"):
            yield "Each trained network and each int8 artifact of one was tested on them once."
    for part, data in recorded:
        if part is not run.search:
            continue
        yield f"The halves are disjoint and stratified by class, drawn with seed {data['seed']}."
        if part.setting("run_search.start_from"):
            yield (
                "The supernet started from the trained unpruned network, which had seen all "
                "training images, those of the architecture half too."
            )
    for part in run.of_kind("training"):
        start = "given weights" if part.setting("run_training.start_from") else "scratch"
        yield f"{phase(part).capitalize()} started from {start}, on the training set."


def _repetition(run: Run) -> Iterator[Element]:
    machine = next((part.machine for part in run.parts.values() if part.machine), None)
    if machine is not None:
        yield Code("The command, as it was given", _command_text(machine["command"]))
    if run.config and run.kind:
        name = {"training": "train"}.get(run.kind, run.kind)
        yield Code(
            "The run directory holds all settings, defaults included; they repeat the run",
            f"python -m tas_tf.{name} --gin_file={run.path}/config.gin --run_dir=runs/again",
        )
    seeds = {phase(p): p.setting(f"run_{p.kind}.seed") for p in run.parts.values() if p.kind}
    seeds = {name: seed for name, seed in seeds.items() if seed is not None}
    if seeds:
        several = ", ".join(f"{seed} ({name})" for name, seed in seeds.items())
        same = len(set(map(str, seeds.values()))) == 1
        text = next(iter(seeds.values())) if same else several
        yield Text(f"Seed: {text}. Draws and the order of images follow from seed and step.")
    if machine is not None:
        rows = [list(version) for version in machine["versions"].items()]
        yield Table("Versions", ["package", "version"], rows)
    if run.config:
        yield Code("All settings (config.gin)", run.config, folded=True)


def _command_text(arguments: Sequence[str]) -> str:
    """Returns a command as people type it, an argument a line where it is long."""
    words = [_quote(argument) for argument in arguments]
    line = " ".join(words)
    return (
        line
        if len(line) <= 80
        else " ".join(words[:3]) + "".join(f" \\\n  {word}" for word in words[3:])
    )


def _quote(argument: str) -> str:
    """Returns an argument as a shell reads it, with quotes around the value of a flag alone."""
    flag, equals, value = argument.partition("=")
    if not equals or shlex.quote(flag) != flag:
        flag, equals, value = "", "", argument
    in_double = "'" in value and not set('"$`\\!') & set(value)
    return flag + equals + (f'"{value}"' if in_double else shlex.quote(value))
