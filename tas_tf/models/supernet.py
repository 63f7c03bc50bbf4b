"""Supernet: all networks of a search space in one, with weight and architecture variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tas_tf.layers.normalization import over_replicas
from tas_tf.layers.sampling import Draw, Path
from tas_tf.layers.searchable_stage import SearchableBlock, SearchableStage
from tas_tf.layers.searchable_unit import Mode, SearchableUnit
from tas_tf.layers.streams import STREAMS
from tas_tf.layers.unit_draws import BlockDraw, UnitDraw, draw_units, drawn_widths
from tas_tf.models import trained_weights
from tas_tf.models.candidates import NORMALIZATIONS, Candidates
from tas_tf.models.shape_plans import PLANS
from tas_tf.spaces import families
from tas_tf.spaces.search_space import SearchSpace

SHAPES = ("auto", *PLANS)


class Supernet(Candidates):
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

    space: SearchSpace
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
        super().__init__(
            space,
            strategy=strategy,
            draws=draws,
            dtype=dtype,
            shapes=(shapes, SHAPES),
            streams=(streams, tuple(STREAMS)),
            normalization=(normalization, NORMALIZATIONS),
        )
        self.shapes = shapes = _shapes(shapes)
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
        runs = tf.concat(
            [
                self._runs(depths, draw.depth_weights[s])
                for s, depths in enumerate(self.space.depths)
            ],
            axis=0,
        )
        # What no depth has weighs nothing: no average of it moves.
        counts = tf.concat([[True], tf.gather(runs, self._unit_blocks)], 0)
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
        is_path = isinstance(draw, Path) and self._computes_paths()
        shapes = self._plan.unit_shapes(widths, tf.concat([weights, computed], 0), is_path)
        weights = tf.concat([weights, projected], 0)
        mixes = self.stem.aggregation.mixes and not is_path
        told = draw_units(candidates, indices, weights, shapes, mixes)
        return told[0], self._by_block(told, identities, tf.unstack(runs) if is_path else None)

    def _computes_paths(self) -> bool:
        """Whether a single path is computed alone, what it does not have being left out.

        Where widths never fall along identities, blocks that a path does not have still widen it;
        and replicas cannot gather statistics in what may be left out.
        """
        return not self._streams.joined and not over_replicas()

    def _by_block(
        self,
        told: Sequence[UnitDraw],
        identities: tf.Tensor | None,
        in_path: Sequence[tf.Tensor] | None,
    ) -> list[list[BlockDraw]]:
        """Returns what the blocks of every stage are told.

        Args:
            told: What the units, then the projections, are told.
            identities: (blocks, k), shares of identity; None where the draw decides nothing.
            in_path: For every block whether the path has it; None where all are computed.
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
                there = in_path[number] if in_path is not None else None
                blocks[-1].append(BlockDraw(drawn, projections.get(number), identity, there))
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
