"""The grid of a study as a spec declares it: networks, their trainings, and the command of each."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from tas_tf.errors import SpecError

UNPRUNED = "unpruned"
TABLE = "table.json"
# How a training is told of its teacher, and of the network whose weights it starts from.
_DISTILLED = ("--teacher={teacher}",)
_INHERITED = ('--gin_bindings=run_training.start_from = "{network}"',)
WAYS = {
    "scratch": (),
    "distilled": _DISTILLED,
    "inherited": _INHERITED,
    "inherited_distilled": (*_DISTILLED, *_INHERITED),
}
# Words, and tuples of them: what several arms have in common.
Words = Sequence[str | Sequence[str]]
MAKERS = ("search", "baseline")  # commands that make networks
_TEACHER = "{teacher}"


@dataclasses.dataclass(frozen=True)
class Network:
    """A network to train: what an arm makes for a budget.

    Args:
        arm: Name of the arm.
        target: The budget, as TARGET has it; None for the unpruned network.
        search: Seed of the search, from 1.
    """

    arm: str
    target: float | str | None
    search: int

    @property
    def key(self) -> str:
        """Its name in records, and its path below the study's directory."""
        if self.target is None:
            return self.arm
        target = re.sub(r"[^\w.]+", "_", str(self.target)).strip("_")
        return f"{self.arm}/{target}/search_{self.search}"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A training of a network.

    Args:
        network: The network.
        way: How it is trained, one of `WAYS`.
        training: Seed of the training, from 1.
    """

    network: Network
    way: str
    training: int

    @property
    def key(self) -> str:
        """Its name in records, and its path below the study's directory."""
        return f"{self.network.key}/{self.way}/training_{self.training}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """A part of the grid: every arm for every budget, trained in every way.

    Args:
        arms: Names of arms.
        targets: Budgets, as TARGET has them.
        ways: How the networks are trained, of `WAYS`.
        trainings: Trainings of each network in each way, by seeds 1, 2, ...
        searches: Networks of an arm for a budget, where they are fewer than the study's.
    """

    arms: Sequence[str]
    targets: Sequence[float | str]
    ways: Sequence[str]
    trainings: int
    searches: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A grid of arms, budgets, ways to train and seeds.

    The teachers are unpruned networks, trained from scratch with seeds 1, 2, ... A search has the
    teacher of its own seed, and a training with distillation learns from the teacher of its own;
    where there are more seeds, teachers take turns.

    Args:
        name: What it is called.
        spec: The spec of every command.
        bindings: What all commands bind besides, some in tuples of their own.
        unpruned: What the trainings of the teachers bind besides, where their schedule differs.
        arms: For every arm the command that makes its networks (one of `MAKERS`, with flags), then
            what that command binds, some in tuples of their own. `{teacher}` stands for the
            teacher's run directory.
        rounds: The parts of the grid, the most informative first.
        searches: Networks that an arm makes for a budget, by seeds 1, 2, ...
        once: Arms that make one network for a budget, such as those that no seed changes.
        teachers: Number of teachers.
        reference: The arm that all others are compared with.
        profile: Flags of the command that measures the latencies for a budget of them.
        seconds: What a network of an arm, or a training in a way, takes, until it is measured.

    Raises:
        SpecError: If it names what it does not declare.
    """

    name: str
    spec: str
    arms: Mapping[str, Words]
    rounds: Sequence[Round]
    bindings: Words = ()
    unpruned: Sequence[str] = ()
    searches: int = 3
    once: Sequence[str] = ()
    teachers: int = 3
    reference: str = "uniform_width"
    profile: str = ""
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in self.rounds:
            _check("Round.arms", part.arms, self.arms)
            _check("Round.ways", part.ways, WAYS)
        _check("run_study.once", self.once, self.arms)
        _check("run_study.reference", [self.reference], self.arms)
        every = [_flat(self.arms[arm]) for arm in self.arms]
        commands = [(shlex.split(words[0]) if words else [""])[0] for words in every]
        _check("run_study.arms", commands, MAKERS)
        for name in ("searches", "teachers"):
            if getattr(self, name) < 1:
                raise SpecError(f"run_study.{name}: expected at least 1")

    def cells(self) -> list[Cell]:
        """Returns all trainings: with few seeds of everything first, and then by round."""
        teachers = [self.teacher(seed) for seed in range(1, self.teachers + 1)]
        places = {teacher: (teacher.training, -1) for teacher in teachers}
        for number, part in enumerate(self.rounds):
            for cell in self._cells_of(part):
                seeds = max(cell.network.search, cell.training)
                places.setdefault(cell, (seeds, number))
        return sorted(places, key=places.__getitem__)

    def _cells_of(self, part: Round) -> Iterator[Cell]:
        """Yields the trainings of a round, those to compare with each other together."""
        for target in part.targets:
            for way in part.ways:
                for search in range(1, (part.searches or self.searches) + 1):
                    for training in range(1, part.trainings + 1):
                        for arm in part.arms:
                            if search == 1 or arm not in self.once:
                                yield Cell(Network(arm, target, search), way, training)

    def teacher(self, seed: int) -> Cell:
        """Returns the training of the teacher of a seed."""
        return Cell(Network(UNPRUNED, None, 1), "scratch", 1 + (seed - 1) % self.teachers)

    def needs(self, item: Network | Cell | str) -> list[Network | Cell | str]:
        """Returns whose run directories the command of an item reads, and `TABLE` if it does."""
        if isinstance(item, str):
            return []
        if isinstance(item, Network):
            has_teacher = any(_TEACHER in word for word in _flat(self.arms[item.arm]))
            teacher = [self.teacher(item.search)] if has_teacher else []
            return [*teacher, *([TABLE] if _is_latency(item.target) else [])]
        network = [] if item.network.arm == UNPRUNED else [item.network]
        teacher = [self.teacher(item.training)] if "distilled" in item.way else []
        return [*network, *teacher]

    def command(
        self, item: Network | Cell | str, root: str, architecture: str | None = None
    ) -> list[str]:
        """Returns the command of an item, less `python` and `--data_dir`.

        Args:
            item: A network, a training, or `TABLE`.
            root: The study's directory.
            architecture: File to train in place of what the network's run directory holds.
        """
        common = [f"--gin_file={self.spec}", *_bound(_flat(self.bindings))]
        if isinstance(item, str):
            words = ["profile_device", *shlex.split(self.profile), *common]
            return _module(words, [f"--output={root}/{item}"])
        seed = item.search if isinstance(item, Network) else item.training
        teacher = run_dir(self.teacher(seed), root)
        end = [f"--seed={seed}", f"--run_dir={run_dir(item, root)}"]
        if isinstance(item, Network):
            called, *own = _flat(self.arms[item.arm])
            name, *flags = shlex.split(called)
            told = [f"TARGET = {json.dumps(item.target)}"]
            if _is_latency(item.target):
                told.append(f'run_{name}.latency_table = "{root}/{TABLE}"')
            words = [*flags, *common, *_bound([*told, *own])]
            return _module([name, *(word.replace(_TEACHER, teacher) for word in words)], end)
        network = run_dir(item.network, root)
        trained = [f"--architecture={architecture or network}"]
        trained = _bound(self.unpruned) if item.network.arm == UNPRUNED else trained
        filled = [word.format(network=network, teacher=teacher) for word in WAYS[item.way]]
        return _module(["train", *common], [*trained, *filled, *end])

    def group(self, item: Network | Cell) -> str:
        """Returns whose seconds an item takes: those of its arm, or of its way to be trained."""
        if isinstance(item, Network):
            return item.arm
        return UNPRUNED if item.network.arm == UNPRUNED else item.way


def run_dir(item: Network | Cell, root: str) -> str:
    """Returns the run directory of an item of a study."""
    kind = "networks" if isinstance(item, Network) else "trainings"
    return f"{root}/{kind}/{item.key}"


def _module(words: Sequence[str], more: Sequence[str]) -> list[str]:
    return ["-m", f"tas_tf.{words[0]}", *words[1:], *more]


def _flat(words: Words) -> list[str]:
    """Returns words, those in tuples of their own in their place."""
    return [w for word in words for w in ([word] if isinstance(word, str) else word)]


def _bound(bindings: Sequence[str]) -> list[str]:
    return [f"--gin_bindings={binding}" for binding in bindings]


def _is_latency(target: float | str | None) -> bool:
    return "latency" in str(target)


def _check(setting: str, names: Sequence[str], known: Sequence[str] | Mapping[str, object]) -> None:
    for name in names:
        if name not in known:
            raise SpecError(f"{setting}: expected of {', '.join(known)}. Received: {name!r}")
