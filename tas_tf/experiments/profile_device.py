"""The profile of a device: a table of latencies of a search space."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

from tas_tf.data.image_data import ImageData
from tas_tf.deployment import formats
from tas_tf.deployment.latency_profile import profile
from tas_tf.deployment.latency_runners import Setting
from tas_tf.deployment.latency_subjects import subjects_of
from tas_tf.errors import EXIT_DONE
from tas_tf.experiments import messages
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileExperiment:
    """Measures a table of latencies of a search space on this device.

    Args:
        output: The table's file.
        dry_run: Whether only to say what would be done.
        setting: Runtime, batch size and number of threads.
        data: The images, which tell size and classes where the next two do not.
        space: Makes the search space from `num_classes` and `input_shape`.
        seconds: About how long a layer or a network is timed.
        input_shape: (height, width, channels) of the images.
        num_classes: Number of classes.
    """

    NAME: ClassVar[str] = "run_profile"

    output: str
    dry_run: bool
    setting: tuple[str, int, int]
    data: ImageData
    space: Callable[..., SearchSpace | ModelSpace]
    seconds: float = 0.1
    input_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None

    def run(self) -> int:
        """Runs it; returns the exit code."""
        setting = Setting(*self.setting)
        formats.check_runtime(setting.runtime)
        input_shape, num_classes = self.input_shape, self.num_classes
        if input_shape is None or num_classes is None:
            info = self.data.describe()
            input_shape, num_classes = info.input_shape, info.num_classes
        space = self.space(num_classes=num_classes, input_shape=input_shape)
        print(f"Profile: {subjects_of(space)}, in {setting}; table {self.output}")
        if self.dry_run:
            return EXIT_DONE
        messages.say_latency(profile(space, self.output, setting, self.seconds))
        print(f"Table: {self.output}")
        return EXIT_DONE
