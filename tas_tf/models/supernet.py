"""Supernet: all networks of a search space in one, with weight and architecture variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from tas_tf.errors import ArchitectureError, SpecError
from tas_tf.layers import sampling
from tas_tf.layers.normalization import EPSILON
from tas_tf.layers.sampling import Draw
from tas_tf.layers.searchable_stage import SearchableBlock, SearchableStage
from tas_tf.layers.searchable_unit import INFERENCE, SearchableUnit
from tas_tf.layers.unit_draws import Sizes, UnitDraw, draw_units, drawn_widths, round_up, unit_sizes
from tas_tf.spaces import families
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.expected_cost import max_candidates, max_depths
from tas_tf.spaces.search_space import SearchSpace

SHAPES = ("auto", "static", "drawn")
DRAWS = ("shared", "own")


class Supernet(keras.layers.Layer):
    """The supernet of a search space (docs/method.md 4).

    Args:
        space: The search space.
        aggregation: How maps of different widths are put together: `interpolate` (the paper) or
            `pad`.
        strategy: How candidates are drawn: `two` (TAS), `gumbel`, `softmax` or
            `straight_through`, see `sampling.draw`.
        formulation: `fused` or `plain`, see `searchable_unit.SearchableUnit`.
        shapes: `static` computes every channel, in shapes known when the step is traced, as XLA
            needs; `drawn` computes the channels that a draw has, rounded up to few distinct
            sizes; `auto` is `drawn` on CPUs and `static` elsewhere.
        draws: `shared`: all replicas make the same draw, and normalize by the statistics of the
            global batch. `own`: each draws for itself and normalizes by its own part of the batch,
            as the published code does; moving averages move by the mean of the replicas' moves.
        dtype: Precision. Under `mixed_bfloat16` maps and kernels are computed in bfloat16;
            variables, statistics, logits and cost stay float32.
    """

    def __init__(
        self,
        space: SearchSpace,
        aggregation: str = "interpolate",
        strategy: str = "two",
        formulation: str = "fused",
        shapes: str = "auto",
        draws: str = "shared",
        dtype: Literal["float32", "float64", "mixed_bfloat16"] = "float32",
    ):
        super().__init__(name="supernet", autocast=False, dtype=dtype)
        if strategy not in sampling.STRATEGIES:
            raise SpecError(
                f"strategy: expected one of {list(sampling.STRATEGIES)}. Received: {strategy!r}"
            )
        if shapes not in SHAPES:
            raise SpecError(f"shapes: expected one of {list(SHAPES)}. Received: {shapes!r}")
        if draws not in DRAWS:
            raise SpecError(f"draws: expected one of {list(DRAWS)}. Received: {draws!r}")
        if shapes == "auto":
            on_cpu = not tf.config.list_logical_devices("GPU")
            shapes = "drawn" if on_cpu and formulation == "fused" else "static"
        self.space = space
        self.shapes = shapes
        self.aggregation = aggregation
        self.strategy = strategy
        self.draws = draws
        options = {
            "aggregation": aggregation,
            "formulation": formulation,
            "synchronized": draws == "shared",
            "dtype": dtype,
        }
        self.stem = SearchableUnit(
            space.outline.stem, space.input_shape[2], space.unit_candidates(0), **options
        )
        self._stages = self._build_stages(options)
        self._streams = self._find_streams()
        ends = np.cumsum([1, *(len(units) for stage in space.block_units for units in stage)]) - 1
        # For every unit whether another of its block follows.
        self._inner = ~np.isin(np.arange(len(self._streams)), ends)
        sizes = [len(units) for stage in space.block_units for units in stage]
        # For every unit but the stem the number of its block.
        self._unit_blocks = np.repeat(np.arange(len(sizes)), sizes)
        features = self._stages[-1].blocks[-1].units[-1].channels
        self.classifier_kernel = self.add_weight(
            name="classifier_kernel",
            shape=(features, space.num_classes),
            initializer=keras.initializers.RandomNormal(stddev=0.01),
            autocast=False,
        )
        self.classifier_bias = self.add_weight(
            name="classifier_bias", shape=(space.num_classes,), initializer="zeros", autocast=False
        )
        self._add_logits()
        self.built = True

    def _build_stages(self, options: dict) -> list[SearchableStage]:
        space, family = self.space, families.FAMILIES[self.space.family]
        channels = space.unit_candidates(0)[-1]
        stages = []
        for s, stage in enumerate(space.outline.stages):
            members = []
            for layers, units in zip(stage, space.block_units[s], strict=True):
                candidates = [space.unit_candidates(unit) for unit in units]
                members.append(
                    SearchableBlock(layers, channels, candidates, family.zero_last_scale, **options)
                )
                channels = candidates[-1][-1]
            stages.append(
                SearchableStage(
                    f"stage{s + 1}",
                    members,
                    space.depths[s],
                    self.aggregation,
                    options["dtype"],
                    zero_is_absent=self.strategy != "straight_through",
                )
            )
        return stages

    def _find_streams(self) -> list[int]:
        """Returns for every unit a number that it shares with those it is added to by identity."""
        streams, stream = [0], 0
        for stage in self._stages:
            for block in stage.blocks:
                inside = range(len(streams), len(streams) + len(block.units) - 1)
                if block.projection is not None:
                    stream = inside.stop
                streams += [*inside, stream]
        return streams

    def _add_logits(self) -> None:
        """One row per choice or stage, padded to the longest; padding is never looked at."""
        space = self.space
        self._width_sizes = np.array([len(c.candidates) for c in space.choices], np.int32)
        self._depth_sizes = np.array([len(depths) for depths in space.depths], np.int32)
        self.width_logits, self.depth_logits = (
            self.add_weight(name=name, shape=(len(sizes), width), initializer=_Logits(sizes))
            for name, sizes, width in (
                ("width_logits", self._width_sizes, max_candidates(space)),
                ("depth_logits", self._depth_sizes, max_depths(space)),
            )
        )

    @property
    def units(self) -> list[SearchableUnit]:
        """The units, stem first, then block by block; projections are no units of their own."""
        return [self.stem] + [
            unit for stage in self._stages for block in stage.blocks for unit in block.units
        ]

    @property
    def projections(self) -> list[SearchableUnit]:
        """The projection shortcuts, in order."""
        members = [block.projection for stage in self._stages for block in stage.blocks]
        return [projection for projection in members if projection is not None]

    @property
    def architecture_variables(self) -> list[keras.Variable]:
        """The logits of widths and depths."""
        return [self.width_logits, self.depth_logits]

    @property
    def weight_variables(self) -> list[keras.Variable]:
        """Kernels, scales, offsets and the classifier, in order."""
        variables = []
        for unit in self.units + self.projections:
            variables += [unit.kernel, unit.scale, unit.offset]
        return [*variables, self.classifier_kernel, self.classifier_bias]

    @property
    def average_variables(self) -> list[keras.Variable]:
        """The moving means and variances."""
        return [
            variable
            for unit in self.units + self.projections
            for variable in (unit.moving_mean, unit.moving_variance)
        ]

    def probabilities(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns softmax of the logits, zero where absent: float64 (choices, n) and (stages, m).

        Exact costs of large networks do not fit float32 (docs/method.md 5).
        """
        return tuple(
            _softmax_of_rows(tf.cast(tf.convert_to_tensor(logits), tf.float64), sizes)
            for logits, sizes in (
                (self.width_logits, self._width_sizes),
                (self.depth_logits, self._depth_sizes),
            )
        )

    def draw(self, temperature: tf.Tensor, seed: tf.Tensor) -> Draw:
        """Draws candidates, see `sampling.draw`.

        Args:
            temperature: Temperature tau.
            seed: (2,) int32.
        """
        if self.draws == "own":
            seed = sampling.replica_seed(seed)
        return sampling.draw(
            self.strategy,
            tf.convert_to_tensor(self.width_logits),
            tf.constant(self._width_sizes),
            tf.convert_to_tensor(self.depth_logits),
            tf.constant(self._depth_sizes),
            temperature,
            seed,
        )

    def fixed_draw(self, architecture: Architecture) -> Draw:
        """Returns the draw under which the supernet is one architecture of its space.

        Args:
            architecture: An architecture of the space. Cut units stand at their smallest width, so
                that none of them widens the stage's output.
        """
        space = self.space
        indices = np.zeros((len(space.choices), 1), np.int32)
        widths = {0: architecture.stem_width}
        for units, stage in zip(space.block_units, architecture.stages, strict=True):
            for block_units, block_widths in zip(units, stage, strict=False):
                widths.update(zip(block_units, block_widths, strict=True))
        for unit, width in widths.items():
            choice = space.unit_choices[unit]
            indices[choice] = space.choices[choice].candidates.index(width)
        depth_weights = np.zeros(self.depth_logits.shape, self.variable_dtype)
        for s, stage in enumerate(architecture.stages):
            depth_weights[s, space.depths[s].index(len(stage))] = 1
        return Draw(
            tf.constant(indices),
            tf.ones(indices.shape, self.variable_dtype),
            tf.constant(depth_weights),
        )

    def call(self, images, draw, mode=INFERENCE):
        """Returns logits (batch, classes), in float32 at least.

        Args:
            images: (batch, height, width, channels).
            draw: The drawn candidates.
            mode: See `searchable_unit.SearchableUnit.call`.
        """
        draws = self._unit_draws(draw)
        x = self.stem(tf.cast(images, self.compute_dtype), draws[0], mode=mode)
        x = tf.nn.relu(x)
        channels = draws[0].width
        if families.FAMILIES[self.space.family].stem_pool:
            # Behind a ReLU padding by zero is padding by the smallest value.
            x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
        for s, stage in enumerate(self._stages):
            units = [[draws[u] for u in block] for block in self.space.block_units[s]]
            x, channels = stage(x, channels, units, draw.depth_weights[s], mode=mode)
        features = tf.cast(tf.reduce_mean(x, axis=(1, 2)), self.variable_dtype)
        kernel = tf.convert_to_tensor(self.classifier_kernel)
        if self.shapes == "drawn":
            kernel = kernel[: tf.shape(features)[1]]
        return tf.linalg.matmul(features, kernel) + self.classifier_bias

    def _unit_draws(self, draw: Draw) -> list[UnitDraw]:
        """Returns a draw unit by unit, and what of the supernet is computed for it."""
        order = tf.constant(self.space.unit_choices)
        indices, weights = tf.gather(draw.indices, order), tf.gather(draw.weights, order)
        runs = [
            self._runs(depths, draw.depth_weights[s]) for s, depths in enumerate(self.space.depths)
        ]
        # What no depth has weighs nothing: no average of it moves.
        counts = tf.concat([[True], tf.gather(tf.concat(runs, 0), self._unit_blocks)], 0)
        weights = tf.where(counts[:, None], weights, 0)
        candidates = [self.space.unit_candidates(unit) for unit in range(len(self.units))]
        sizes = None
        if self.shapes == "drawn":
            sizes = self._sizes(drawn_widths(candidates, indices), weights)
        return draw_units(candidates, indices, weights, self.aggregation == "interpolate", sizes)

    def _runs(self, depths: Sequence[int], weights: tf.Tensor) -> tf.Tensor:
        """Returns for every block of a stage whether a depth of weight above zero has it."""
        deepest = tf.reduce_max(tf.where(weights[: len(depths)] > 0, tf.constant(depths), 0))
        return tf.range(max(depths)) < deepest

    def _sizes(self, widths: tf.Tensor, weights: tf.Tensor) -> Sizes:
        """Returns how many channels every unit computes, and how many it gives.

        Units at the ends of blocks that identities join give the same number.

        Args:
            widths: (units, k) int32, drawn widths.
            weights: (units, k), their weights.
        """
        counted = tf.where(weights > 0, widths, 0)
        given = tf.reduce_max(widths if self.aggregation == "interpolate" else counted, axis=1)
        # Within a block that no depth has, nothing needs to be handed on.
        absent = tf.constant(self._inner) & (tf.reduce_max(counted, axis=1) == 0)
        given = tf.where(absent, 0, given)
        streams = tf.constant(self._streams)
        count = max(self._streams) + 1
        given = tf.gather(tf.math.unsorted_segment_max(given, streams, count), streams)
        units = self.units
        channels = tf.constant([unit.channels for unit in units])
        computed = round_up(tf.reduce_max(counted, axis=1), channels)
        given = round_up(given, channels)
        # A unit is given what the one before it gives, the stem the images.
        inputs = tf.concat([[self.space.input_shape[2]], given[:-1]], 0)
        kernels = np.array([unit.kernel.shape for unit in units])
        return unit_sizes(kernels, inputs, computed, given)

    def start_from(self, model: keras.Model, images: tf.Tensor) -> None:
        """Takes the weights of the trained unpruned network.

        Every candidate's normalization begins as the network's. A projection that the network
        does not normalize gets the normalization that changes nothing on `images`.

        Args:
            model: The unpruned network, as `spec_compiler.build_model` makes it.
            images: (batch, height, width, channels), normalized as in training.

        Raises:
            ArchitectureError: If the model is not the unpruned network of this space.
        """
        self._check_unpruned(model)
        for unit in self.units + self.projections:
            kernel, vectors = _layer_weights(model, unit.name, images)
            unit.kernel.assign(kernel)
            variables = (unit.scale, unit.offset, unit.moving_mean, unit.moving_variance)
            blank = (0.0, 0.0, 0.0, 1.0)
            for variable, vector, value in zip(variables, vectors, blank, strict=True):
                variable.assign(np.where(unit.channel_mask, vector, value))
        kernel, bias = model.get_layer("classifier").get_weights()
        self.classifier_kernel.assign(kernel)
        self.classifier_bias.assign(bias)

    def _check_unpruned(self, model: keras.Model) -> None:
        """Refuses a network of other kernels, before anything is taken from it."""
        units = self.units + self.projections
        wanted = {unit.name: tuple(unit.kernel.shape) for unit in units}
        wanted["classifier"] = tuple(self.classifier_kernel.shape)
        received = {
            layer.name: tuple(layer.kernel.shape)
            for layer in model.layers
            if hasattr(layer, "kernel")
        }
        for name in wanted | received:
            if wanted.get(name) != received.get(name):
                raise ArchitectureError(
                    f"{name}: expected the unpruned network, with a kernel of shape "
                    f"{wanted.get(name)} here. Received: {received.get(name)}"
                )


def entropy(probabilities: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Returns each row's relative entropy, 1 for uniform, 0 for one-hot (and for a single entry).

    Args:
        probabilities: (rows, n), zeros where absent.
        sizes: (rows,), the number of candidates of each.
    """
    p = np.clip(probabilities, 1e-300, 1.0)
    sizes = np.asarray(sizes)
    return -(p * np.log(p)).sum(axis=1) / np.log(np.maximum(sizes, 2))


class _Logits(keras.initializers.Initializer):
    """N(0, 0.01^2) for candidates that exist, zero for padding."""

    def __init__(self, sizes: np.ndarray):
        self.sizes = sizes

    def __call__(self, shape, dtype=None):
        values = keras.random.normal(shape, stddev=0.01, dtype=dtype)
        return values * tf.sequence_mask(self.sizes, shape[1], dtype=values.dtype)

    def get_config(self):
        return {"sizes": self.sizes.tolist()}


def _softmax_of_rows(logits: tf.Tensor, sizes: np.ndarray) -> tf.Tensor:
    present = tf.sequence_mask(sizes, logits.shape[1])
    return tf.where(present, tf.nn.softmax(tf.where(present, logits, -1e9)), 0.0)


def _layer_weights(
    model: keras.Model, name: str, images: tf.Tensor
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Returns a layer's kernel, and scale, offset, mean and variance of its normalization."""
    layer = model.get_layer(name)
    kernel = layer.get_weights()[0]
    names = {member.name for member in model.layers}
    if f"{name}_bn" in names:
        return kernel, tuple(model.get_layer(f"{name}_bn").get_weights())
    output = keras.Model(model.inputs, layer.output)(images, training=False)
    mean, variance = (m.numpy() for m in tf.nn.moments(tf.cast(output, tf.float32), (0, 1, 2)))
    return kernel, (np.sqrt(variance + EPSILON), mean, mean, variance)
