"""The measurement of paths, and the choice among them, on real images of digits."""

import dataclasses

import numpy as np
import pytest
import small_runs
import tensorflow as tf

from tas_tf.errors import RunDirectoryError, SpecError
from tas_tf.layers.searchable_unit import Mode
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.cost import cost
from tas_tf.training import losses
from tas_tf.training.measurement import Measurement, Scorer, choose, measure
from tas_tf.training.path_values import PathValues, random_path
from tas_tf.training.scores import SCORES, Score, Scores

PLAN = Measurement(paths=12, near=3, finalists=3, images=128, final_images=256)


@pytest.fixture(scope="module")
def search():
    loop = small_runs.paths()
    loop.fit(small_runs.digits().training(64, 0, "weights"), 2)
    return loop


@pytest.fixture(scope="module")
def feed():
    return small_runs.digits().training(64, 0, "architecture", augment=False)


def measured(search, feed, folder, plan=PLAN, **options):
    directory = RunDirectory(str(folder))
    directory.make()
    references = {"unpruned": search.supernet.space.unpruned()}
    seen = []
    show = options.pop("show", lambda *told: seen.append(told))
    paths = measure(Scorer(search, feed, plan), Scores(directory), show)
    return choose(paths, search.budgets, references, show), seen


@pytest.fixture(scope="module")
def whole(search, feed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, *measured(search, feed, folder)


def test_a_score_is_the_loss_of_the_derived_shape_by_the_batch_s_statistics(search, feed):
    net = search.supernet
    indices = random_path(net.space, 0, 5)
    scorer = Scorer(search, feed, dataclasses.replace(PLAN, final_images=100))
    draw = net.fixed_draw(net.space.architecture(*indices))
    expected = [
        float(
            tf.reduce_mean(losses.cross_entropy(labels, net(images, draw, mode=Mode.ARCHITECTURE)))
        )
        for images, labels in feed.batches(0, 2)
    ]
    np.testing.assert_allclose(scorer.losses(indices, 100), expected, rtol=1e-5)
    more = Scorer(search, feed, dataclasses.replace(PLAN, final_images=200))
    assert len(more.losses(indices, 200)) == 4
    np.testing.assert_allclose(more.losses(indices, 100), expected, rtol=1e-5)


def test_the_choice_is_within_the_budget_and_the_best_of_the_finalists(search, whole):
    folder, choice, _ = whole
    (budget,) = search.budgets
    assert budget.contains(cost(choice.architecture, budget.kind))
    finals = [score for score in choice.finalists if score.name is None]
    assert len(finals) == PLAN.finalists
    third = len(finals[0].losses) // 3
    assert third == 1
    random = [
        score for score in Scores(RunDirectory(str(folder))).scores if score.round == "random"
    ]
    values = PathValues(search.supernet.space, random, PLAN.capacity, PLAN.streams)
    means = [values.of(score.indices, np.mean(score.losses[:third])) for score in finals]
    assert means == sorted(means, reverse=True)
    space = search.supernet.space
    assert space.architecture(*finals[0].indices) == choice.architecture
    assert len({score.indices for score in finals}) == len(finals)


def test_values_add_the_capacity_and_the_streams_that_losses_lack(search):
    space = search.supernet.space
    paths = [random_path(space, 0, number) for number in range(40)]
    random = np.random.default_rng(0)
    scores = [Score("random", path, (float(random.normal()),)) for path in paths]
    logarithms = np.log([cost(space.architecture(*path), "parameters") for path in paths])
    losses_ = np.array([score.loss for score in scores])
    unpruned = space.unpruned()
    outputs = []
    for path in paths:
        architecture = space.architecture(*path)
        # The stream of the first stage begins with the stem.
        shares = [architecture.stem_width / unpruned.stem_width]
        for kept, whole in zip(architecture.stages, unpruned.stages, strict=True):
            shares += [a[-1] / b[-1] for a, b in zip(kept, whole, strict=False)]
        outputs.append(np.mean(np.log(shares)))
    z, streams = ((v - np.mean(v)) / np.std(v) for v in (logarithms, np.array(outputs)))
    expected = -losses_ + losses_.std() * (0.4 * z + 0.3 * streams)
    values = PathValues(space, scores, 0.4, 0.3)
    received = [values.of(score.indices, score.loss) for score in scores]
    np.testing.assert_allclose(received, expected, rtol=1e-9)
    # The derivation's model has the capacity as a sum of terms, a prediction has it exactly.
    model = values.fitted(scores)
    alone = PathValues(space, scores, 0.0, 0.0).fitted(scores)
    exact = values.predicted(scores, paths)
    np.testing.assert_allclose(exact - alone.predict(paths), expected + losses_, atol=1e-9)
    assert np.corrcoef(model.predict(paths), exact)[0, 1] > 0.95
    without = PathValues(space, scores, 0.0, 0.0)
    assert without.of(paths[0], 2.0) == -2


def test_leads_are_measured_on_images_that_had_no_part_in_the_choice(search, whole):
    folder, choice, _ = whole
    first, *_, unpruned = choice.finalists
    assert unpruned.name == "unpruned"
    third = len(first.losses) // 3
    random = [
        score for score in Scores(RunDirectory(str(folder))).scores if score.round == "random"
    ]
    values = PathValues(search.supernet.space, random, PLAN.capacity, PLAN.streams)
    ahead, behind = ([values.of(s.indices, x) for x in s.losses[third:]] for s in (first, unpruned))
    differences = np.subtract(ahead, behind)
    lead = choice.leads["unpruned"]
    assert lead.value == pytest.approx(differences.mean())
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    assert lead.standard_error == pytest.approx(error)
    in_loss = np.mean(unpruned.losses[third:]) - np.mean(first.losses[third:])
    assert lead.loss == pytest.approx(in_loss)
    record = choice.record()["leads"]["unpruned"]
    assert record["decided"] == lead.decided == (lead.value > 2 * error)
    assert set(choice.leads) == {"runner-up", "unpruned"}


def test_values_are_those_of_the_images_that_judge(whole):
    _, choice, _ = whole
    assert choice.values[0] - choice.values[-1] == pytest.approx(choice.leads["unpruned"].value)
    assert [of["value"] for of in choice.record()["finalists"]] == choice.values


def test_a_single_batch_that_judges_decides_nothing(search, feed, whole, tmp_path):
    folder, _, _ = whole
    lines = (folder / SCORES).read_text().splitlines(keepends=True)
    (tmp_path / SCORES).write_text("".join(lines[: PLAN.paths + PLAN.near]))
    plan = dataclasses.replace(PLAN, finalists=2, final_images=100)
    choice, _ = measured(search, feed, tmp_path, plan)
    assert [len(part) for part in choice.finalists[0].parts] == [1, 1]
    for lead in choice.record()["leads"].values():
        assert lead["standard_error"] is None and not lead["decided"]


def test_paths_are_measured_on_images_that_do_not_judge(search, feed, whole):
    assert Scorer(search, feed, PLAN).plan == dataclasses.replace(PLAN, images=64)
    plan = dataclasses.replace(PLAN, images=10_000, final_images=10_000)
    batches = feed.steps_per_epoch
    held = Scorer(search, feed, plan).plan
    assert (held.images, held.final_images) == (64 * (batches // 3), 64 * batches)
    folder, choice, _ = whole
    scores = Scores(RunDirectory(str(folder))).scores
    assert {len(score.losses) for score in scores if score.round != "final"} == {1}
    assert len(choice.finalists[0].losses) == 4


def test_a_single_batch_cannot_choose_and_judge(search):
    data = small_runs.digits()
    few = data.training(800, 0, "architecture", augment=False)
    assert few.steps_per_epoch == 1
    with pytest.raises(SpecError, match="Received: one of .* images. Give a smaller `batch_size`"):
        Scorer(search, few, PLAN)


def test_every_score_is_shown_once(whole):
    _, _, seen = whole
    total = PLAN.paths + PLAN.near + PLAN.finalists + 1  # with the reference
    assert [done for done, _, _ in seen] == list(range(1, total + 1))
    assert all(now for _, now, _ in seen)


@pytest.mark.parametrize("count", [0, 7, 14, 17])
def test_an_interrupted_measurement_goes_on_as_if_it_was_not(search, feed, whole, tmp_path, count):
    folder, choice, _ = whole
    lines = (folder / SCORES).read_text().splitlines(keepends=True)
    (tmp_path / SCORES).write_text("".join(lines[:count]))
    again, seen = measured(search, feed, tmp_path)
    assert again.record() == choice.record()
    assert sum(now for _, now, _ in seen) == len(lines) - count
    assert (tmp_path / SCORES).read_text() == "".join(lines)


def test_the_scores_of_another_search_are_refused(search, feed, whole, tmp_path):
    folder, _, _ = whole
    (tmp_path / SCORES).write_text((folder / SCORES).read_text())
    other = dataclasses.replace(PLAN, paths=5)
    with pytest.raises(RunDirectoryError, match=r"scores.jsonl, line 6: expected .*near"):
        measured(search, feed, tmp_path, other)


@pytest.mark.parametrize("text", ["{", "[1]\n", '{"round": "near"}\n', '{"round": 1, "widths": 2}'])
def test_damaged_scores_are_refused(text, tmp_path):
    (tmp_path / SCORES).write_text(text)
    with pytest.raises(RunDirectoryError, match="scores.jsonl cannot be read: .*measured anew"):
        Scores(RunDirectory(str(tmp_path)))


def test_a_score_keeps_its_candidates():
    score = Score("near", ((0, 1), (2,)), (1.0, 3.0))
    assert score.loss == 2
    assert score.record()["widths"] == [0, 1]
