"""Runners of what a profile of a device times: parts of networks, whole ones, and references."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

import keras

from tas_tf.deployment import runners
from tas_tf.deployment.formats import FORMATS, Resizable
from tas_tf.deployment.latency_subjects import Subjects
from tas_tf.deployment.running import Runner, random_images


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a table is measured in.

    Args:
        runtime: One of `formats.RUNTIMES`.
        batch_size: Images in a call.
        threads: Number of threads.
    """

    runtime: str
    batch_size: int
    threads: int

    def __str__(self) -> str:
        return f"{self.runtime}, batch {self.batch_size}, threads {self.threads}"


class Loader:
    """Makes runners, with their images in them.

    Args:
        subjects: What is measured of a space.
        setting: Where it is measured.
    """

    def __init__(self, subjects: Subjects, setting: Setting):
        self._subjects, self._setting = subjects, setting
        # Of every part a file, and the widths in it that others take the place of.
        self._files: dict[Any, tuple[tuple[int, ...], bytes]] = {}

    @functools.cached_property
    def empty(self) -> Runner:
        """A network that does next to nothing: what a call takes by itself."""
        values = keras.layers.Input((1,))
        return self._loaded(keras.Model(values, keras.layers.ReLU()(values)))

    @functools.cached_property
    def reference(self) -> Runner:
        """A network that is always the same, about as large as a part."""
        values = keras.layers.Input((28, 28, 16))
        return self._loaded(keras.Model(values, keras.layers.Conv2D(16, 3)(values)))

    def network(self, network: Any) -> Runner:
        """Returns a whole network."""
        return self._loaded(self._subjects.build_network(network))

    def loads(self, network: Any) -> Callable[[], Runner]:
        """Returns what loads a whole network: anew each time where its runtime converts it once."""
        made, model = FORMATS[self._setting.runtime], self._subjects.build_network(network)
        if not made.resizable:
            loaded = self._loaded(model)
            return lambda: loaded
        runtime = cast(Resizable, made.load())
        content = runtime.content(model, self._setting.batch_size, None)
        return lambda: runtime.resized(content, {}, self._setting.threads)

    def part(self, part: Any, widths: tuple[int, ...]) -> Runner:
        """Returns a layer or a piece at a width of each of its axes."""
        made, find = FORMATS[self._setting.runtime], self._subjects.stand_ins
        if not made.resizable or find is None:
            return self._loaded(self._subjects.build(part, widths))
        runtime = cast(Resizable, made.load())  # as its declaration says
        if part not in self._files:  # one conversion, which takes longer than all else, serves all
            stand_ins = find(part)
            model = self._subjects.build(part, stand_ins)
            self._files[part] = stand_ins, runtime.content(model, self._setting.batch_size, None)
        stand_ins, content = self._files[part]
        replaced = dict(zip(stand_ins, widths, strict=True))
        return runtime.resized(content, replaced, self._setting.threads)

    def _loaded(self, model: keras.Model) -> Runner:
        setting = self._setting
        loaded = runners.runner(model, setting.runtime, setting.batch_size, setting.threads)
        loaded.load(random_images(model, setting.batch_size))
        return loaded
