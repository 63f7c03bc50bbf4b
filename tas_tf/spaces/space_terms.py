"""Terms of a space: its widths and depths as choices, its costs as tables over them."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tas_tf.spaces.branches import Condition
from tas_tf.spaces.channels import Form
from tas_tf.spaces.cost import CostKind, kind_of
from tas_tf.spaces.expected_cost import FORMULAS, Place, places
from tas_tf.spaces.memory import Moment
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.spaces.terms import Choice, Cost, Peak, Terms


def choices_of(space: SearchSpace | ModelSpace) -> list[Choice]:
    """Returns what is decided: all widths, then the depths of all stages."""
    widths = [Choice(choice.name, choice.candidates) for choice in space.choices]
    depths = [
        Choice(name, depths, decides=True)
        for name, depths in zip(space.depth_names, space.depths, strict=True)
    ]
    return widths + depths


def cost_of(
    space: SearchSpace | ModelSpace, kind: str | CostKind = "macs", formula: str = "built"
) -> Cost:
    """Returns the cost of a space's architectures as terms (docs/method.md 5).

    Of a ResNet every place where a layer may stand is a term over the widths at its two ends and
    the depth that decides whether it is built; of a peak it is a sum of its own, with the width of
    the block's input too. Of a model that was read every weight is one over the widths along its
    axes, and over the branch that decides whether it is there; milliseconds are terms of its pieces
    in their place. The value is `cost.cost` of the architecture, to the unit.

    Args:
        space: The search space.
        kind: The kind of cost, or the name of one of `cost.KINDS`.
        formula: One of `expected_cost.FORMULAS`.
    """
    kind, choices = kind_of(kind), choices_of(space)
    if isinstance(space, ModelSpace):
        return peak_of(space, choices) if kind.peak else sum_of(space, kind, choices)
    terms = [_term(space, kind, place) for place in places(space, FORMULAS[formula])]
    if kind.peak:
        return Peak(tuple(Terms(choices, [term]) for term in terms))
    return Terms(choices, terms)


def peak_of(space: ModelSpace, choices: list[Choice]) -> Peak:
    """Returns the peak memory of a model that was read: a sum for each moment.

    Args:
        space: The search space.
        choices: What `choices_of` returns.
    """
    parts = []
    for moment in moments_of_space(space):
        terms = _sizes(space, moment.size, [moment.branch])
        for condition, form in moment.sometimes.items():
            terms += _sizes(space, form, [moment.branch, condition])
        parts.append(Terms(choices, terms))
    return Peak(tuple(parts))


def _sizes(
    space: ModelSpace, form: Form, conditions: Sequence[Condition | None]
) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """Returns a number that is a function of widths, where all conditions hold, as terms."""
    where: tuple[int, ...] = ()
    there = np.ones((), np.int64)
    for condition in conditions:
        scope, table = _there(space, condition)
        where, there = where + scope, np.multiply.outer(there, table)
    terms = [(where, form.constant * there)]
    for c, choice in enumerate(space.choices):
        if choice.name in form.multiples:
            each = form.multiples[choice.name] * np.array(choice.candidates, np.int64)
            terms.append(((c, *where), np.multiply.outer(each, there)))
    return terms


def moments_of_space(space: ModelSpace) -> list[Moment]:
    """Returns the moments that can be the peak of one of the space's networks.

    A branch that is not searched is always there. A moment at which no less of anything is alive
    than at another one stands for that one too.
    """
    known = [_searched(moment, {*space.depth_names}) for moment in space.graph.moments]
    names = [choice.name for choice in space.choices]

    def row(form: Form) -> list[int]:
        return [form.constant, *(form.multiples.get(name, 0) for name in names)]

    least = np.array([row(moment.size) for moment in known])
    most = np.array([row(Form.sum_of([m.size, *m.sometimes.values()])) for m in known])
    kept: list[int] = []
    for i in np.argsort(-most.sum(axis=1), kind="stable").tolist():
        covers = [j for j in kept if known[j].branch in (None, known[i].branch)]
        if not (least[covers] >= most[i]).all(axis=1).any():
            kept.append(i)
    return [known[i] for i in sorted(kept)]


def _searched(moment: Moment, branches: set[str]) -> Moment:
    """Returns a moment of which only some branches may be left out."""
    always, sometimes = [moment.size], {}
    for condition, form in moment.sometimes.items():
        if isinstance(condition, str) and condition not in branches:
            always.append(form)
        else:
            sometimes[condition] = form
    branch = moment.branch if moment.branch in branches else None
    return Moment(Form.sum_of(always), sometimes, branch)


def sum_of(space: ModelSpace, kind: CostKind, choices: list[Choice]) -> Terms:
    """Returns the cost of a model that was read: of its weights, or of its pieces.

    Args:
        space: The search space.
        kind: The kind of cost; no peak.
        choices: What `choices_of` returns.
    """
    if kind.times is None:
        return products_of(space, kind.name, choices)
    times = kind.times(space.graph)
    terms: list[tuple[tuple[int, ...], np.ndarray]] = [((), np.asarray(times.overhead))]
    for placed, time in times.pieces:
        where, there = _there(space, placed.condition)
        for scope, table in _tables(space, placed.axes, time):
            terms.append(((*scope, *where), np.multiply.outer(table, there)))
    return Terms(choices, terms)


def _tables(
    space: ModelSpace, axes: Sequence[Form], time: Callable[[tuple[int, ...]], float]
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Yields tables over widths whose sum is a function of several numbers of channels.

    Args:
        space: The search space.
        axes: The numbers of channels. In one that several groups sum up to the function is linear:
            it falls apart into a table for every group.
        time: The function.
    """
    index = {choice.name: number for number, choice in enumerate(space.choices)}
    parts: list[list[tuple[tuple[int, ...], np.ndarray]]] = []
    points: list[list[int]] = []
    for axis in axes:
        values = {
            name: n * np.array(space.choices[index[name]].candidates)
            for name, n in axis.multiples.items()
        }
        if len(values) == 1:
            ((name, own),) = values.items()
            points.append((axis.constant + own).tolist())
            parts.append([((index[name],), np.eye(len(own)))])
            continue
        low, high = (axis.constant + sum(map(of, values.values())) for of in (np.min, np.max))
        points.append([int(low), int(high)])
        # f(low) + (x - low) * (f(high) - f(low)) / (high - low); of a single point f itself.
        slope = np.array([-1.0, 1.0]) / max(high - low, 1)
        parts.append([((), np.array([1.0, 0.0]) + (axis.constant - low) * slope)])
        parts[-1] += [((index[name],), np.outer(slope, own)) for name, own in values.items()]
    shape = [len(along) for along in points]
    table = np.array([time(at) for at in itertools.product(*points)]).reshape(shape)
    for picked in itertools.product(*parts):
        part = table
        for _, along in picked:  # each takes the first axis off, and puts its own behind
            part = np.tensordot(part, along, axes=(0, 0))
        yield tuple(itertools.chain.from_iterable(scope for scope, _ in picked)), part


def products_of(space: ModelSpace, kind: str, choices: list[Choice]) -> Terms:
    """Returns the cost of a model that was read: its products, multiplied out.

    Args:
        space: The search space.
        kind: One of `graph.SUMS`.
        choices: What `choices_of` returns.
    """
    index = {choice.name: number for number, choice in enumerate(space.choices)}
    factors: collections.Counter[tuple[tuple[int, ...], Condition | None]] = collections.Counter()
    for product in space.graph.products(kind):
        lengths = [
            [((), form.constant), *(((index[name],), n) for name, n in form.multiples.items())]
            for form in product.lengths
        ]
        for parts in itertools.product(*lengths):
            scope = tuple(sorted(itertools.chain.from_iterable(scope for scope, _ in parts)))
            key = scope, product.condition
            factors[key] += product.factor * math.prod(n for _, n in parts)
    widths = [np.array(choice.candidates, np.int64) for choice in choices]
    terms = []
    for (scope, condition), factor in factors.items():
        where, built = _there(space, condition)
        table = _outer(factor, [widths[c] for c in scope])
        terms.append(((*scope, *where), np.multiply.outer(table, built)))
    return Terms(choices, terms)


def _there(space: ModelSpace, condition: Condition | None) -> tuple[tuple[int, ...], np.ndarray]:
    """Returns a scope and a table that is 1 where a condition holds, else 0.

    A branch that is not searched is always there.
    """
    if condition is None or (isinstance(condition, str) and condition not in space.depth_names):
        return (), np.ones((), np.int64)
    if isinstance(condition, str):
        return (len(space.choices) + space.depth_names.index(condition),), np.array([0, 1])
    names = [choice.name for choice in space.choices]
    scope = tuple(names.index(name) for name in condition)
    first, second = (np.array(space.choices[c].candidates) for c in scope)
    return scope, (first[:, None] != second).astype(np.int64)


def _outer(factor: int, vectors: list[np.ndarray]) -> np.ndarray:
    table = np.asarray(factor, np.int64)
    for vector in vectors:
        table = np.multiply.outer(table, vector)
    return table


def _term(space: SearchSpace, kind: CostKind, place: Place) -> tuple[list[int], np.ndarray]:
    """Returns scope and table of a place: widths that differ, then the depth."""
    ends = (place.entry if kind.peak else None, place.source, place.target)
    fixed = (0, space.input_shape[2], space.num_classes)
    scope = sorted({choice for choice in ends if choice is not None})
    candidates = [space.choices[choice].candidates for choice in scope]
    table = np.zeros([len(widths) for widths in candidates], np.int64)
    for picks in itertools.product(*(range(len(widths)) for widths in candidates)):
        drawn = {c: widths[k] for c, widths, k in zip(scope, candidates, picks, strict=True)}
        entry, source, target = (
            width if choice is None else drawn[choice]
            for choice, width in zip(ends, fixed, strict=True)
        )
        if place.built_between(source, target):
            table[picks] = kind.layer(place.layer, source, target, entry)
    if place.stage is None:
        return scope, table
    built = np.zeros(len(space.depths[place.stage]), np.int64)
    built[list(place.depths)] = 1
    return [*scope, len(space.choices) + place.stage], np.multiply.outer(table, built)
