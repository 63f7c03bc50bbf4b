"""ModelSupernet: the graph of a model that was read, run under a draw of its channels.

Every channel that may fall away has a share: `s_c = sum_k w_k [rank(c) < width_k]`, over the
candidates that its group has drawn. All follows from the shares and from the labels of the axes of
weights. A batch normalization has scale, offset and averages for every candidate and sums them up
by their weights; a layer whose output nothing normalizes has its kernel multiplied by the shares;
and no layer reads a channel that no drawn candidate has. Under the draw of one architecture that is
the function of the network that is built from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.layers.sampling import Draw
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.candidate_normalization import CandidateNormalization, normalize_present
from tas_tf.models.candidates import NORMALIZATIONS, Candidates
from tas_tf.models.lookup import Lookup, Told
from tas_tf.models.narrowing import most_important, operations_of
from tas_tf.models.traversal import (
    Visit,
    graph_of,
    last_operation,
    readers,
    remade,
    softmax_of,
    traverse,
)
from tas_tf.spaces.calls import Call
from tas_tf.spaces.expected_cost import max_candidates
from tas_tf.spaces.model_space import ModelArchitecture, ModelSpace

IMPORTANCES = ("scale", "kernel")
# Layers whose statistics are over the channels that are there.
ACROSS = ("LayerNormalization", "GroupNormalization", "RMSNormalization", "UnitNormalization")


class ModelSupernet(Candidates):
    """The supernet of a model that was read; its weights begin as the model's.

    The first channels of a group, which narrow candidates keep too, are its most important ones.
    Every channel stays where it is and is computed, and so is every branch, in the precision that
    the model's layers have; variables, statistics and logits are float32.

    Args:
        space: The search space.
        strategy: How candidates are drawn, see `sampling.draw`.
        draws: `shared` or `own`, see `Supernet`.
        normalization: Whether every candidate has a normalization of its own (`private`), or all
            share one (`shared`).
        importance: By what channels are important: `scale` or `kernel`, see
            `narrowing.importance`.
    """

    space: ModelSpace

    def __init__(
        self,
        space: ModelSpace,
        strategy: str = "two",
        draws: str = "shared",
        normalization: str = "private",
        importance: str = "scale",
    ):
        super().__init__(
            space,
            strategy=strategy,
            draws=draws,
            dtype="float32",
            normalization=(normalization, NORMALIZATIONS),
            importance=(importance, IMPORTANCES),
        )
        self.importance = importance
        self.shapes = "static"
        # Whether a softmax at the end of the only output is left out.
        self.gives_logits = not space.graph.output_shapes[1:]
        self._lookup = Lookup.of(space, importance)
        # Rows of scales, offsets and averages.
        self._rows = max_candidates(space) if normalization == "private" else 1
        self._normalized_next = _read_normalized(space)
        # The additions of branches that may be left out, by what they write.
        self._additions = {
            space.graph.calls[branch.addition].written: (number, branch.shortcut)
            for number, branch in enumerate(space.branches)
        }
        operations = operations_of(space.model, space.graph)
        self._softmax = _without_softmax(space, operations)
        self._normalizations: dict[int, CandidateNormalization] = {}
        self._values: dict[int, list[keras.Variable]] = {}
        for call, operation in zip(space.graph.calls, operations, strict=True):
            if call.first:
                self._add_variables(call, operation)
        # Keras looks for layers in lists, not in dictionaries by number.
        self._parts = list(self._normalizations.values())
        self._add_logits()
        self.built = True

    def _add_variables(self, call: Call, operation: Any) -> None:
        """Copies the variables of a layer; the model itself never changes."""
        if _is_normalized(call):
            classes = self.space.graph.partition.class_of[call.reads()]
            self._normalizations[call.operation] = CandidateNormalization(
                operation, classes, self._rows, synchronized=self.draws == "shared"
            )
            return
        self._values[call.operation] = [
            self.add_weight(
                name=f"{call.path}/{variable.name}".replace("/", "_"),
                shape=variable.shape,
                dtype=variable.dtype,
                initializer=_Copy(variable),
                trainable=variable.trainable,
                autocast=False,
            )
            for variable in getattr(operation, "variables", ())
        ]

    @property
    def weight_variables(self) -> list[keras.Variable]:
        """Everything that training changes in the model, in order."""
        own = [v for values in self._values.values() for v in values if v.trainable]
        return own + [v for part in self._parts for v in part.trainable_variables]

    @property
    def average_variables(self) -> list[keras.Variable]:
        """The moving means and variances."""
        return [v for part in self._parts for v in (part.moving_mean, part.moving_variance)]

    @property
    def importances(self) -> dict[str, np.ndarray]:
        """For every group by its name the importance of its classes of channels (n,)."""
        return self._lookup.importances

    @property
    def classes(self) -> int:
        """The number of classes of channels."""
        return len(self._lookup.rank)

    def whole_draw(self) -> Draw:
        """Returns the draw of the widest candidates and all branches."""
        indices = tf.constant(self._width_sizes[:, None] - 1)
        depths = np.zeros(self.depth_logits.shape, np.float32)
        depths[:, -1] = 1
        return Draw(indices, tf.ones(indices.shape), tf.constant(depths))

    def call(
        self,
        inputs: Any,
        draw: Draw,
        mode: Mode = Mode.INFERENCE,
        gates: tf.Tensor | None = None,
    ) -> Any:
        """Returns the model's output under a draw: logits (batch, classes), if it classifies.

        Several outputs are returned in the model's structure.

        Args:
            inputs: What the model takes, with the batch as the first axis.
            draw: The drawn candidates.
            mode: How batch normalization is treated. Dropout and the like act in `WEIGHTS` alone.
            gates: (classes,), what every class of channels is multiplied by; None for ones.
        """
        functional = graph_of(self.space.model)
        given = [
            tf.cast(x, tensor.dtype)
            for x, tensor in zip(keras.tree.flatten(inputs), functional.inputs, strict=True)
        ]
        told, calls = self._lookup.told(draw, gates), iter(self.space.graph.calls)

        def visit(visited: Visit) -> Any:
            call = next(calls)
            if call.written in self._additions:
                return self._added(call, visited, draw)
            return self._visit(call, visited, told, mode)

        # Losses are computed in float32 at least.
        outputs = [_wide(output) for output in traverse(functional, given, visit)]
        return (
            keras.tree.pack_sequence_as(functional.output, outputs) if outputs[1:] else outputs[0]
        )

    def _added(self, call: Call, visit: Visit, draw: Draw) -> tf.Tensor:
        """Returns the sum of a shortcut and of its branch, as far as the draw has it."""
        number, shortcut = self._additions[call.written]
        given = keras.tree.flatten((visit.args, visit.kwargs))
        given[1 - shortcut] *= tf.cast(draw.depth_weights[number, 1], given[0].dtype)
        args, kwargs = keras.tree.pack_sequence_as((visit.args, visit.kwargs), given)
        return visit.operation(*args, **kwargs)

    def _visit(self, call: Call, visit: Visit, told: Told, mode: Mode) -> Any:
        operation, args, kwargs = visit.operation, visit.args, dict(visit.kwargs)
        if call.operation in self._normalizations:
            return self._normalizations[call.operation](args[0], told=told, mode=mode)
        if self.gives_logits and call.operation in self._softmax:
            operation = self._softmax[call.operation]
            if operation is None:
                return args[0]
        if "training" in inspect.signature(operation.call).parameters:
            kwargs["training"] = mode is Mode.WEIGHTS
        if call.kind in ACROSS and not call.reason:
            present = self._along(told.present, call.reads())
            values = [tf.convert_to_tensor(v) for v in self._values[call.operation]]
            return normalize_present(operation, args[0], present, values)
        if call.bypassed:
            return self._projected(call, args[0], told)
        if not self._values[call.operation]:
            return operation(*args, **kwargs)
        return self._run(call, operation, args, kwargs, told)

    def _projected(self, call: Call, x: tf.Tensor, told: Told) -> tf.Tensor:
        """Returns what a shortcut hands on: itself where widths agree, else projected."""
        (kernel,) = map(tf.convert_to_tensor, self._values[call.operation])
        class_of = self.space.graph.partition.class_of
        reads, writes = (class_of[ids.ravel()] for ids in (call.inputs[0], call.outputs[0]))
        identity = self._lookup.identity(told, reads, writes)
        present = tf.gather(told.present, reads)
        kernel *= present[:, None] * (tf.gather(told.share, writes) - identity)
        handed_on = x * tf.cast(present * identity, x.dtype)
        return handed_on + tf.linalg.matmul(x, tf.cast(kernel, x.dtype))

    def _run(
        self, call: Call, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], told: Told
    ) -> Any:
        """Runs a layer with the supernet's weights, as the draw leaves them."""
        own = self._values[call.operation]
        variables = dict(zip(map(id, operation.variables), own, strict=True))
        of = {key: tf.convert_to_tensor(variable) for key, variable in variables.items()}
        for index, key in enumerate(map(id, operation.weights)):
            of[key] = self._masked(call, index, of[key], told)
        mapping = [(variable, of[id(variable)]) for variable in operation.variables]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            outputs = operation(*args, **kwargs)  # in the layer's own precision
        for variable, value in mapping:
            moved = scope.get_current_value(variable)
            if moved is not value:  # such as the state of a generator of random numbers
                variables[id(variable)].assign(moved)
        return outputs

    def _masked(self, call: Call, index: int, value: tf.Tensor, told: Told) -> tf.Tensor:
        """Returns a weight without the channels that are not there."""
        partition = self.space.graph.partition
        for axis, ids in enumerate(call.axes.get(index, ())):
            if ids is None or not self._lookup.searched[partition.class_of[ids]].any():
                continue
            if partition.owners[ids[0]] == call.path:  # what it writes
                if id(call) in self._normalized_next:
                    continue
                factor = told.share
            elif index in call.uses:
                factor = told.present
            else:
                continue
            shape = [1] * len(value.shape)
            shape[axis] = len(ids)
            value *= tf.reshape(self._along(factor, ids), shape)
        return value

    def _along(self, of_classes: tf.Tensor, ids: np.ndarray) -> tf.Tensor:
        return tf.gather(of_classes, self.space.graph.partition.class_of[ids])

    def kept(self, architecture: ModelArchitecture) -> dict[str, np.ndarray]:
        """Returns the positions in every group that an architecture keeps."""
        return most_important(self._lookup.importances, architecture.widths)

    def weights_of(self, architecture: ModelArchitecture) -> Any:
        """Returns what gives a layer the weights that it has in an architecture, for `narrow`."""
        indices, _ = self.space.indices(architecture)
        of_classes = self._lookup.of_classes(np.array(indices, np.int32))

        def weights(call: Call, operation: Any) -> list[np.ndarray]:
            if call.operation in self._normalizations:
                return self._normalizations[call.operation].weights_of(of_classes)
            known = zip(operation.variables, self._values[call.operation], strict=True)
            values = {id(own): np.asarray(value) for own, value in known}
            return [values[id(weight)] for weight in operation.weights]

        return weights


def _is_normalized(call: Call) -> bool:
    return call.kind == "BatchNormalization" and not call.reason


def _read_normalized(space: ModelSpace) -> set[int]:
    """Returns the identities of calls whose outputs only batch normalizations read."""
    calls = space.graph.calls
    operations = operations_of(space.model, space.graph)
    pairs = zip(calls, operations, strict=True)
    normalizing = {id(operation) for call, operation in pairs if _is_normalized(call)}
    read_by = readers(space.model)[len(graph_of(space.model).inputs) :]
    return {
        id(call)
        for call, several in zip(calls, read_by, strict=True)
        if several and all(id(operation) in normalizing for operation in several)
    }


class _Copy(keras.initializers.Initializer):
    """The value of a variable."""

    def __init__(self, variable: keras.Variable):
        self._variable = variable

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> tf.Tensor:
        return tf.cast(tf.convert_to_tensor(self._variable), dtype)


def _wide(output: tf.Tensor) -> tf.Tensor:
    """Returns an output of floats in float32 at least."""
    is_half = output.dtype in (tf.bfloat16, tf.float16)
    return tf.cast(output, tf.float32) if is_half else output


def _without_softmax(space: ModelSpace, operations: Sequence[Any]) -> dict[int, Any]:
    """Returns what runs in place of a softmax at the end, by operation: None for nothing."""
    last = last_operation(space.model)
    found = softmax_of(last)
    if not found:
        return {}
    calls = zip(space.graph.calls, operations, strict=True)
    call = next(call for call, operation in calls if operation is last)
    if found == "alone":
        return {call.operation: None}
    linear = remade(last, last.name, {"activation": "linear"})
    linear.build((None, *call.input_shapes[0]))
    return {call.operation: linear}
