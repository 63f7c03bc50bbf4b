"""Supernet: all networks of a search space in one, with weight and architecture variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tas_tf.errors import SpecError
from tas_tf.layers import sampling
from tas_tf.layers.sampling import Draw
from tas_tf.layers.searchable_stage import SearchableBlock, SearchableStage
from tas_tf.layers.searchable_unit import Mode, SearchableUnit
from tas_tf.layers.streams import STREAMS
from tas_tf.layers.unit_draws import BlockDraw, UnitDraw, draw_units, drawn_widths
from tas_tf.models import trained_weights
from tas_tf.models.shape_plans import PLANS
from tas_tf.runtime import environment
from tas_tf.spaces import families
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.expected_cost import table_shapes
from tas_tf.spaces.search_space import SearchSpace

SHAPES = ("auto", *PLANS)
DRAWS = ("shared", "own")
NORMALIZATIONS = ("private", "shared")


class Supernet(keras.layers.Layer):
    """The supernet of a search space (docs/method.md 4).

    Args:
        space: The search space.
        aggregation: How maps of different widths are put together: `interpolate` (the paper) or
            `pad`.
        strategy: How candidates are drawn: `two` (TAS), `gumbel`, `softmax` or
            `straight_through`, see `sampling.draw`.
        shapes: `static` computes every channel, in shapes known when the step is traced, as XLA
            needs; `drawn` computes the channels that a draw has, rounded up to few distinct
            sizes; `auto` is `drawn` on CPUs and `static` elsewhere.
        draws: `shared`: all replicas make the same draw, and normalize by the statistics of the
            global batch. `own`: each draws and normalizes by itself, as the published code does;
            moving averages move by the mean of the replicas' moves.
        streams: What shortcuts hand on. `paper`: an identity hands on all channels. `derived`: a
            projection stands wherever a block's two widths differ, as in the derived network.
        normalization: Whether every candidate has a normalization of its own (`private`, the
            paper), or all share that of the widest (`shared`).
        dtype: Precision. Under `mixed_bfloat16` maps and kernels are computed in bfloat16;
            variables, statistics, logits and cost stay float32.
    """

    unit_class = SearchableUnit

    def __init__(
        self,
        space: SearchSpace,
        aggregation: str = "interpolate",
        strategy: str = "two",
        shapes: str = "auto",
        draws: str = "shared",
        streams: str = "paper",
        normalization: str = "private",
        dtype: Literal["float32", "float64", "mixed_bfloat16"] = "float32",
    ):
        environment.check_keras()
        super().__init__(name="supernet", autocast=False, dtype=dtype)
        for name, value, known in (
            ("strategy", strategy, sampling.STRATEGIES),
            ("shapes", shapes, SHAPES),
            ("draws", draws, DRAWS),
            ("streams", streams, STREAMS),
            ("normalization", normalization, NORMALIZATIONS),
        ):
            if value not in known:
                raise SpecError(f"{name}: expected one of {list(known)}. Received: {value!r}")
        self.space = space
        self.shapes = shapes = _shapes(shapes)
        self.strategy = strategy
        self.draws = draws
        options: dict[str, Any] = {
            "aggregation": aggregation,
            "private": normalization == "private",
            "synchronized": draws == "shared",
            "dtype": dtype,
        }
        self.stem = self.unit_class(
            space.outline.stem, space.input_shape[2], space.unit_candidates(0), **options
        )
        self._streams = STREAMS[streams](space)
        # Whether what weighs nothing has no gradient either.
        self._zero_is_absent = strategy != "straight_through"
        self._stages = self._build_stages(options)
        self._plan = PLANS[shapes](self.stem, self._stages, self._streams.joined)
        sizes = [len(units) for stage in space.block_units for units in stage]
        # The block of every unit but the stem.
        self._unit_blocks = np.repeat(np.arange(len(sizes)), sizes)
        blocks = [block for stage in self._stages for block in stage.blocks]
        # The last unit of every block, and the blocks that have a projection.
        self._block_ends = np.cumsum(sizes)
        self._projecting = [b for b, block in enumerate(blocks) if block.projection is not None]
        features = blocks[-1].units[-1].channels
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
        shortcuts = iter(self._streams.shortcuts())
        for s, stage in enumerate(space.outline.stages):
            members = []
            for layers, units in zip(stage, space.block_units[s], strict=True):
                candidates = [space.unit_candidates(unit) for unit in units]
                block = SearchableBlock(
                    layers,
                    channels,
                    candidates,
                    next(shortcuts),
                    family.zero_last_scale,
                    make_unit=self.unit_class,
                    **options,
                )
                members.append(block)
                channels = candidates[-1][-1]
            stages.append(
                SearchableStage(
                    f"stage{s + 1}",
                    members,
                    space.depths[s],
                    options["aggregation"],
                    options["dtype"],
                    zero_is_absent=self._zero_is_absent,
                    joined=self._streams.joined,
                )
            )
        return stages

    def _add_logits(self) -> None:
        """One row per choice or stage, padded to the longest; padding is never looked at."""
        space = self.space
        self._width_sizes = np.array([len(c.candidates) for c in space.choices], np.int32)
        self._depth_sizes = np.array([len(depths) for depths in space.depths], np.int32)
        sizes = self._width_sizes, self._depth_sizes
        self.width_logits, self.depth_logits = (
            self.add_weight(name=name, shape=shape, initializer=sampling.InitialLogits(of_rows))
            for name, shape, of_rows in zip(
                ("width_logits", "depth_logits"), table_shapes(space), sizes, strict=True
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
            sampling.softmax_of_rows(tf.cast(tf.convert_to_tensor(logits), tf.float64), sizes)
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
        return sampling.draw(
            self.strategy,
            width_logits=tf.convert_to_tensor(self.width_logits),
            width_sizes=tf.constant(self._width_sizes),
            depth_logits=tf.convert_to_tensor(self.depth_logits),
            depth_sizes=tf.constant(self._depth_sizes),
            temperature=temperature,
            seed=self._own_seed(seed),
        )

    def uniform_path(self, seed: tf.Tensor) -> Draw:
        """Draws one architecture of the space, see `sampling.uniform_path`.

        Args:
            seed: (2,) int32.
        """
        return sampling.uniform_path(
            tf.constant(self._width_sizes),
            tf.constant(self._depth_sizes),
            most_depths=self.depth_logits.shape[1],
            seed=self._own_seed(seed),
            dtype=tf.as_dtype(self.variable_dtype),
        )

    def _own_seed(self, seed: tf.Tensor) -> tf.Tensor:
        """Returns the seed of a draw: this replica's own, where each draws for itself."""
        return sampling.replica_seed(seed) if self.draws == "own" else seed

    def fixed_draw(self, architecture: Architecture) -> Draw:
        """Returns the draw under which the supernet is one architecture of its space.

        Args:
            architecture: An architecture of the space. Cut units stand at their smallest width, so
                that none of them widens the stage's output.
        """
        width_indices, depth_indices = self.space.indices(architecture)
        indices = np.array(width_indices, np.int32)[:, None]
        depth_weights = np.zeros(self.depth_logits.shape, self.variable_dtype)
        depth_weights[np.arange(len(depth_indices)), depth_indices] = 1
        return Draw(
            tf.constant(indices),
            tf.ones(indices.shape, self.variable_dtype),
            tf.constant(depth_weights),
        )

    def call(self, images: tf.Tensor, draw: Draw, mode: Mode = Mode.INFERENCE) -> tf.Tensor:
        """Returns logits (batch, classes), in float32 at least.

        Args:
            images: (batch, height, width, channels).
            draw: The drawn candidates.
            mode: How batch normalization is treated.
        """
        stem, blocks = self._draws(draw)
        x = self.stem(tf.cast(images, self.compute_dtype), drawn=stem, mode=mode)
        x = tf.nn.relu(x)
        channels = stem.width
        if families.FAMILIES[self.space.family].stem_pool:
            # Behind a ReLU padding by zero is padding by the smallest value.
            x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
        for stage, depths, drawn in zip(
            self._stages, tf.unstack(draw.depth_weights), blocks, strict=True
        ):
            x, channels = stage(x, channels, depths, draws=drawn, mode=mode)
        features = tf.cast(tf.reduce_mean(x, axis=(1, 2)), self.variable_dtype)
        shapes = blocks[-1][-1].units[-1].shapes
        kernel = shapes.cut_rows(tf.convert_to_tensor(self.classifier_kernel))
        return tf.linalg.matmul(features, kernel) + self.classifier_bias

    def _draws(self, draw: Draw) -> tuple[UnitDraw, list[list[BlockDraw]]]:
        """Returns what the stem and the blocks of every stage are told of a draw."""
        order = tf.constant(self.space.unit_choices)
        indices, weights = tf.gather(draw.indices, order), tf.gather(draw.weights, order)
        runs = [
            self._runs(depths, draw.depth_weights[s]) for s, depths in enumerate(self.space.depths)
        ]
        # What no depth has weighs nothing: no average of it moves.
        counts = tf.concat([[True], tf.gather(tf.concat(runs, 0), self._unit_blocks)], 0)
        weights = tf.where(counts[:, None], weights, 0)
        candidates = [unit.candidates for unit in self.units]
        identities = self._streams.identity_shares(
            drawn_widths(candidates, indices), weights, draw.depth_weights
        )
        # A projection draws as the last unit of its block does, in so far as it is no identity.
        rows = self._projecting
        ends = self._block_ends[rows]
        projected = computed = tf.gather(weights, ends)
        if identities is not None:
            projected *= 1 - tf.gather(identities, rows)
            # The straight-through estimator has gradients of what weighs nothing.
            computed = projected if self._zero_is_absent else computed
        candidates += [candidates[end] for end in ends]
        indices = tf.concat([indices, tf.gather(indices, ends)], 0)
        widths = drawn_widths(candidates, indices)
        shapes = self._plan.unit_shapes(widths, tf.concat([weights, computed], 0))
        weights = tf.concat([weights, projected], 0)
        told = draw_units(candidates, indices, weights, shapes, self.stem.aggregation.mixes)
        return told[0], self._by_block(told, identities)

    def _by_block(
        self, told: Sequence[UnitDraw], identities: tf.Tensor | None
    ) -> list[list[BlockDraw]]:
        """Returns what the blocks of every stage are told.

        Args:
            told: What the units, then the projections, are told.
            identities: (blocks, k), shares of identity; None where the draw decides nothing.
        """
        projections = dict(zip(self._projecting, told[len(self.units) :], strict=True))
        shares = tf.unstack(identities) if identities is not None else []
        blocks: list[list[BlockDraw]] = []
        number = 0
        for stage, units in zip(self._stages, self.space.block_units, strict=True):
            blocks.append([])
            for block, of_block in zip(stage.blocks, units, strict=True):
                identity = shares[number] if block.shortcut.is_drawn else None
                drawn = [told[unit] for unit in of_block]
                blocks[-1].append(BlockDraw(drawn, projections.get(number), identity))
                number += 1
        return blocks

    def _runs(self, depths: Sequence[int], weights: tf.Tensor) -> tf.Tensor:
        """Returns for every block of a stage whether a depth of weight above zero has it."""
        deepest = tf.reduce_max(tf.where(weights[: len(depths)] > 0, tf.constant(depths), 0))
        return tf.range(max(depths)) < deepest

    def start_from(self, model: keras.Model, images: tf.Tensor) -> None:
        """Takes the weights of the trained unpruned network.

        Every candidate's normalization begins as the network's. A projection that the network
        does not normalize gets the normalization that changes nothing on `images`; one that it
        does not have begins as the identity.

        Args:
            model: The unpruned network, as `spec_compiler.build_model` makes it.
            images: (batch, height, width, channels), normalized as in training.

        Raises:
            ArchitectureError: If the model is not the unpruned network of this space.
        """
        units, added = self.units + self.projections, self._added_projections()
        kernels = {u.name: tuple(u.kernel.shape) for u in units if u.name not in added}
        kernels["classifier"] = tuple(self.classifier_kernel.shape)
        weights = trained_weights.of_unpruned(model, kernels, images)
        weights |= trained_weights.of_identities(model, added, images)
        for unit in units:
            kernel, vectors = weights[unit.name]
            unit.kernel.assign(kernel)
            variables = (unit.scale, unit.offset, unit.moving_mean, unit.moving_variance)
            blank = (0.0, 0.0, 0.0, 1.0)
            for variable, vector, value in zip(variables, vectors, blank, strict=True):
                variable.assign(np.where(unit.row_mask, vector, value))
        kernel, bias = model.get_layer("classifier").get_weights()
        self.classifier_kernel.assign(kernel)
        self.classifier_bias.assign(bias)

    def _added_projections(self) -> dict[str, str]:
        """Returns projections that the unpruned network lacks, with their blocks' first units."""
        return {
            block.projection.name: block.units[0].name
            for stage in self._stages
            for block in stage.blocks
            if block.projection is not None and not block.is_projected_unpruned
        }


def _shapes(shapes: str) -> str:
    """Returns what `auto` stands for."""
    if shapes != "auto":
        return shapes
    return "static" if tf.config.list_logical_devices("GPU") else "drawn"


def entropy(probabilities: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Returns each row's relative entropy, 1 for uniform, 0 for one-hot (and for a single entry).

    Args:
        probabilities: (rows, n), zeros where absent.
        sizes: (rows,), the number of candidates of each.
    """
    p = np.clip(probabilities, 1e-300, 1.0)
    return -(p * np.log(p)).sum(axis=1) / np.log(np.maximum(np.asarray(sizes), 2))
