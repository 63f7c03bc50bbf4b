"""Spaces of models that were read: candidates, costs, derivation, architectures as text."""

import itertools
import json

import keras
import numpy as np
import pytest
import random_models
import small_models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers
from model_parts import classified, image, shuffled, squeezed, unit

import tas_tf
from tas_tf.errors import ArchitectureError, BudgetError, ModelError, SpecError
from tas_tf.spaces import derivation
from tas_tf.spaces.cost import cost, kind_of, parse_targets
from tas_tf.spaces.expected_terms import cost_model
from tas_tf.spaces.model_space import ModelArchitecture
from tas_tf.spaces.space_terms import cost_of

RATIOS = (0.3, 0.6, 1.0)


def space_of(model, **options):
    return tas_tf.SearchSpace.from_model(model, **{"ratios": RATIOS, **options})


def assignments(space):
    sizes = [len(choice.candidates) for choice in space.choices]
    for picks in itertools.product(*map(range, sizes), *([0, 1] for _ in space.branches)):
        yield picks[: len(sizes)], picks[len(sizes) :]


def taken(tables, picks):
    """Yields what tables of widths and branches say of the candidates that are picked."""
    for table, of_table in zip(tables, picks, strict=True):
        yield from (row[k] for row, k in zip(table, of_table, strict=True))


def random_rows(space, rng):
    """Logits of widths and branches, and the probabilities that they mean."""
    most = max(len(choice.candidates) for choice in space.choices)
    logits = rng.normal(size=(len(space.choices), most)), rng.normal(size=(len(space.branches), 2))
    return logits, derivation.probabilities(space, *logits)


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(plan=random_models.plans(most=4), seed=st.integers(0, 99))
def test_costs_as_terms_are_those_of_the_graph(plan, seed):
    try:
        space = space_of(random_models.build(plan), leave_out_branches=True)
    except SpecError:  # nothing to search
        return
    rng = np.random.default_rng(seed)
    for kind in ("macs", "parameters"):
        terms = cost_of(space, kind)
        for _ in range(5):
            widths = [rng.integers(len(choice.candidates)) for choice in space.choices]
            branches = [rng.integers(2) for _ in space.branches]
            architecture = space.architecture(widths, branches)
            assert terms.value(widths + branches) == cost(architecture, kind)
            found, kept = space.indices(architecture)
            assert kept == tuple(branches)
            assert all(
                index == width or (index == 0 and choice.name not in architecture.widths)
                for choice, index, width in zip(space.choices, found, widths, strict=True)
            )


@pytest.mark.parametrize("name", ["residual", "dense_blocks", "squeeze_and_excitation", "shuffle"])
def test_the_expected_cost_is_the_mean_over_all_architectures(name):
    space = space_of(small_models.ALL[name](), ratios=(0.5, 1.0), leave_out_branches=True)
    rng = np.random.default_rng(1)
    _, probabilities = random_rows(space, rng)
    for kind in ("macs", "parameters"):
        mean = sum(
            cost(space.architecture(*picks), kind) * np.prod(list(taken(probabilities, picks)))
            for picks in assignments(space)
        )
        model = cost_model(space, kind)
        assert model.expected(*probabilities) == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("name", ["inverted_residual", "segments", "resnext"])
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_the_most_probable_within_the_budget(name, share):
    space = space_of(small_models.ALL[name](), leave_out_branches=True)
    logits, probabilities = random_rows(space, np.random.default_rng(2))
    (budget,) = parse_targets(share, space, tolerance=0.2)
    derived = derivation.derive(space, *logits, [budget])
    assert derived.in_band and budget.contains(cost(derived.architecture))
    inside = [
        (np.log([*taken(probabilities, picks)]).sum(), space.architecture(*picks))
        for picks in assignments(space)
        if budget.contains(cost(space.architecture(*picks)))
    ]
    value, best = max(inside, key=lambda pair: pair[0])
    assert derived.architecture == best
    assert derived.log_probability == pytest.approx(value)
    assert derived.optimality_gap == 0.0


def test_a_large_network_that_concatenates_is_derived_in_seconds():
    model = keras.applications.DenseNet121(
        weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None
    )
    space = tas_tf.SearchSpace.from_model(model)
    logits, _ = random_rows(space, np.random.default_rng(3))
    (budget,) = parse_targets(0.5, space)
    derived = derivation.derive(space, 0.5 * logits[0], logits[1], [budget])
    assert derived.in_band
    assert derived.optimality_gap < 0.2


def test_a_budget_beyond_reach_says_what_can_be_reached():
    space = space_of(small_models.residual())
    budgets = parse_targets(0.01, space)
    with pytest.raises(BudgetError, match=r"Reachable are .* of the unpruned network"):
        derivation.check_reachable(space, budgets)
    low, high = derivation.reachable(space, kind_of("macs"))
    costs = [cost(space.architecture(*picks)) for picks in assignments(space)]
    assert (low, high) == (min(costs), max(costs))


def wide():
    i = image()
    x = shuffled(unit(i, 24, name="first"), 3)
    return classified(i, unit(x, 20, name="second", groups=4))


def test_candidates_count_channels_in_whole_classes():
    space = space_of(wide(), ratios=(0.25, 0.5, 0.75, 1.0))
    # Convolutions of four groups keep as many channels of each: a class is of four, or of twelve.
    for choice, group in zip(space.choices, space.graph.groups, strict=True):
        channels = space.graph.partition.channels_of(group)
        assert choice.candidates[-1] == group.width
        assert channels == {"first": 24, "second": 20}[group.name]
    divided = space_of(wide(), ratios=(0.3, 0.6, 1.0), width_divisor=8)
    for choice, group in zip(divided.choices, divided.graph.groups, strict=True):
        each = divided.graph.partition.channels_of(group) // group.width
        for width in choice.candidates[:-1]:
            assert width * each % 8 == 0


def test_what_is_frozen_is_not_searched():
    model = small_models.squeeze_and_excitation()
    name = space_of(model).choices[0].name
    space = space_of(model, frozen=[name])
    assert len(space.choices[0].candidates) == 1
    assert all(len(choice.candidates) > 1 for choice in space.choices[1:])
    with pytest.raises(SpecError, match=r"frozen: 'nowhere' is no layer of .* such are"):
        space_of(model, frozen=["nowhere"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"ratios": ()}, r"ratios: expected numbers in \(0, 1\]"),
        ({"ratios": (0.5, 1.5)}, r"ratios: expected numbers in \(0, 1\]"),
        ({"width_divisor": 0}, "width_divisor: expected at least 1"),
    ],
)
def test_arguments_that_make_no_sense(options, match):
    with pytest.raises(SpecError, match=match):
        space_of(small_models.residual(), **options)


def test_nothing_to_search_is_said_with_reasons():
    with pytest.raises(SpecError, match=r"has channels to search\. All are kept: .*an input"):
        space_of(small_models.channels_as_places())
    with pytest.raises(ModelError, match="has a graph"):

        class Own(keras.Model):
            def call(self, x):
                return x

        space_of(Own())


def test_the_summary_names_what_is_searched_tied_and_kept():
    i = image()
    x = unit(i, 8, name="stem")
    x = layers.Add()([x, unit(squeezed(x), 8, name="branch")])
    x = layers.Lambda(lambda t: t * 2, name="mine")(unit(x, 6, name="last"))
    space = space_of(classified(i, x))
    text = space.summary()
    assert f"{space.graph.cost():,} MACs" in text
    assert "  stem: 2, 4, 8\n    tied: " in text and ", branch\n" in text
    assert "  last: read by mine (Lambda): not understood\n" in text
    assert "logits: an output of the model" in text


def test_architectures_are_text_that_only_their_own_model_takes():
    space = space_of(small_models.dense_blocks())
    architecture = space.architecture([0] * len(space.choices), name="small").replace(
        cost={"macs": 5}
    )
    text = architecture.to_json()
    read = ModelArchitecture.from_json(text, space)
    assert read == architecture and read.cost == {"macs": 5}
    other = space_of(small_models.residual())
    with pytest.raises(ArchitectureError, match=r"a\.json: fingerprint: expected .*, that of"):
        ModelArchitecture.from_json(text, other, source="a.json")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schema_version": 1}, "schema_version: expected 2"),
        ({"widths": {"nowhere": 3}}, "expected a group of channels among"),
        ({"widths": {"conv2d": True}}, "widths: expected whole numbers by name"),
        ({"widths": [1]}, "widths: expected whole numbers by name"),
        ({"colour": 1}, "unknown field"),
        ({"fingerprint": None}, "fingerprint: expected"),
        ({"left_out": ["nowhere"]}, "left_out: expected additions of residual branches"),
        ({"left_out": "add"}, "left_out: expected a list of names"),
    ],
)
def test_malformed_text_names_the_field(change, match):
    space = space_of(small_models.residual())
    fields = json.loads(space.unpruned().to_json()) | change
    with pytest.raises(ArchitectureError, match=match):
        ModelArchitecture.from_json(json.dumps(fields), space)
    for text in ("[]", "{", json.dumps({"schema_version": 2})):
        with pytest.raises(ArchitectureError):
            ModelArchitecture.from_json(text, space)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text(max_size=200))
def test_no_text_is_run_or_breaks_the_reader(text):
    with pytest.raises(ArchitectureError):
        ModelArchitecture.from_json(text, SPACE)


SPACE = space_of(small_models.residual())
