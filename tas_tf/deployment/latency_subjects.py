"""What a profile of a device measures: layers or pieces of a space's networks, and whole ones."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tas_tf.errors import SpecError
from tas_tf.models import derived, spec_compiler
from tas_tf.models.piece_models import PieceModels
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.families import Layer
from tas_tf.spaces.latency_table import layer_widths
from tas_tf.spaces.model_space import ModelArchitecture, ModelSpace
from tas_tf.spaces.pieces import piece_widths, pieces_of
from tas_tf.spaces.search_space import SearchSpace

FITTED, JUDGED = 6, 6  # whole networks: a runtime may take many seconds to convert one
_INPUT_WIDTHS = 3  # times are nearly linear in input channels, and have steps in output channels
_QUARTERS = 4
_POINTS = 24  # at most, of a piece
_STAND_IN = 37  # padded sizes, which are even or one more than a layer's, do not come near

Network = Architecture | ModelArchitecture
Widths = tuple[tuple[int, ...], ...]  # of every axis, ascending


@dataclasses.dataclass(frozen=True)
class Subjects:
    """What is measured for a space.

    Args:
        name: What people call the parts of a network that are measured, such as `layers`.
        grids: Every part (a layer or a piece) and the widths of its axes.
        networks: Whole networks: those that scale and overhead are fitted to, then others.
        fitted: How many are fitted to.
        space: What the table says of the space.
        record: All of the space that a measurement depends on, plain data.
        build: From a part and a width of each axis to its model.
        build_network: From a whole network to its model.
        stand_ins: From a part to a width of each axis that occurs as no other size in its model;
            an axis of one width keeps it. None where such widths are not known.
    """

    name: str
    grids: Mapping[Any, Widths]
    networks: Sequence[Any]
    fitted: int
    space: Mapping[str, Any]
    record: Any
    build: Callable[[Any, tuple[int, ...]], keras.Model]
    build_network: Callable[[Any], keras.Model]
    stand_ins: Callable[[Any], tuple[int, ...]] | None = None

    def __str__(self) -> str:
        count = sum(int(np.prod([len(axis) for axis in axes])) for axes in self.grids.values())
        return (
            f"{count} {self.name} of {len(self.grids)} kinds and {len(self.networks)} whole "
            "networks"
        )


def subjects_of(space: SearchSpace | ModelSpace) -> Subjects:
    """Returns what is measured for a space.

    Raises:
        SpecError: If its networks do not take one tensor of numbers and give one.
    """
    return _of_model(space) if isinstance(space, ModelSpace) else _of_resnets(space)


def _of_resnets(space: SearchSpace) -> Subjects:
    unpruned, grids = space.unpruned(), layer_grids(space)
    return Subjects(
        name="layers",
        grids=grids,
        networks=_networks(space),
        fitted=FITTED,
        space={
            "family": space.family,
            "block": space.block,
            "input_shape": list(space.input_shape),
            "num_classes": space.num_classes,
        },
        record=json.loads(json.dumps(dataclasses.asdict(space))),
        build=lambda layer, widths: spec_compiler.build_layer(unpruned, layer, *widths),
        build_network=spec_compiler.build_model,
        stand_ins=lambda layer: _stand_ins(layer, grids[layer]),
    )


def _stand_ins(layer: Layer, axes: Widths) -> tuple[int, ...]:
    """Returns a width of every axis that is told from all else in the layer's model."""
    fixed = {axis[0] for axis in axes if len(axis) == 1}
    sizes = {*layer.kernel, *layer.size, *layer.in_size, *(layer.pooled_size or ()), *fixed}
    free = (width for width in itertools.count(_STAND_IN, 2) if width not in sizes)
    return tuple(axis[0] if len(axis) == 1 else next(free) for axis in axes)


def layer_grids(space: SearchSpace) -> dict[Any, Widths]:
    """Returns the input and output widths at which every layer of a space is measured.

    Output widths are all candidates, since vector units make steps in them, and the quarters of the
    widest; input widths are some of these, the first and the last among them. So the table also
    serves spaces of the same layers with other candidates, from a quarter of the width on.
    """
    grids: dict[Any, Widths] = {}
    for layer, ends in layer_widths(space).items():
        sources, targets = map(_with_quarters, ends)
        picks = np.linspace(0, len(sources) - 1, _INPUT_WIDTHS).round().astype(int)
        grids[layer] = (tuple(sorted({sources[pick] for pick in picks})), targets)
    return grids


def _with_quarters(widths: Sequence[int]) -> tuple[int, ...]:
    """Returns widths with the quarters of the widest; a width that is fixed stays alone."""
    if len(widths) == 1:
        return tuple(widths)
    quarters = (max(1, widths[-1] * part // _QUARTERS) for part in range(1, _QUARTERS))
    return tuple(sorted({*widths, *quarters}))


def _of_model(space: ModelSpace) -> Subjects:
    graph = space.graph
    _check_model(space)
    placed = {each.piece: each for each in reversed(pieces_of(graph))}
    models = PieceModels(space)

    def build_network(network: ModelArchitecture) -> keras.Model:
        narrowed = derived.build_model(network)
        if None not in narrowed.input_shape[1:]:
            return narrowed
        images = keras.Input(space.input_shape)
        return keras.Model(images, narrowed(images))

    return Subjects(
        name="pieces",
        grids=piece_grids(space),
        networks=_networks(space),
        fitted=FITTED,
        space={
            "model": graph.name,
            "fingerprint": graph.fingerprint,
            "input_shape": list(space.input_shape),
        },
        record=json.loads(json.dumps(space.record())),
        build=lambda piece, widths: models.build(placed[piece], widths),
        build_network=build_network,
    )


def _check_model(space: ModelSpace) -> None:
    """Refuses a model whose networks the runtimes do not run, or cannot run piece by piece."""
    model = space.model
    tensors = [*model.inputs, *model.outputs]
    is_one = len(model.inputs) == len(model.outputs) == 1
    if not is_one or any("float" not in tensor.dtype for tensor in tensors):
        said = ", ".join(f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in tensors)
        raise SpecError(
            "milliseconds are measured of models of one input and one output of floats; give a "
            f"budget of macs, of parameters or of memory. {model.name} has {said}",
            field="target",
        )
    for call in space.graph.calls:
        if any(None in shape for shape in call.input_shapes + call.output_shapes):
            raise SpecError(
                "milliseconds are measured of models whose calls all have known sizes; give a "
                f"budget of macs, of parameters or of memory. Not known are those of {call.path}",
                field="target",
            )


def piece_grids(space: ModelSpace) -> dict[Any, Widths]:
    """Returns the widths at which every piece of a space's networks is measured.

    Of the channels that a piece writes these are the candidates as far as there is room, since
    vector units make steps in them; of those that it only reads a few. Of an axis that several
    groups sum up to it is the smallest and the largest number.
    """
    grids = {}
    for piece, axes in piece_widths(space).items():
        *read, written = axes or [()]
        room = _POINTS // 2 ** len(read)
        each = int((_POINTS / min(len(written), room)) ** (1 / len(read))) if read else 0
        grids[piece] = tuple(map(_some, axes, [*[each] * len(read), room]))
    return grids


def _some(widths: Sequence[int], most: int) -> tuple[int, ...]:
    """Returns at most so many widths, spread evenly, the first and the last among them."""
    known = np.array(widths)
    wanted = np.linspace(known[0], known[-1], min(most, len(known)))
    picks = np.abs(known - wanted[:, None]).argmin(axis=1)
    return tuple(sorted({int(known[pick]) for pick in picks}))


def _networks(space: SearchSpace | ModelSpace) -> list[Network]:
    """Returns the unpruned network, the smallest, and others of all sizes between them."""
    random = np.random.default_rng(0)
    widths = np.array([len(choice.candidates) - 1 for choice in space.choices])
    depths = np.array([len(stage) - 1 for stage in space.depths], int)

    def drawn(share: float) -> Network:
        sizes = random.binomial(widths, share), random.binomial(depths, share)
        return space.architecture(*(each.tolist() for each in sizes))

    fitted, judged = (
        [drawn((place + 1) / (count + 1)) for place in range(count)]
        for count in (FITTED - 2, JUDGED)
    )
    return [space.unpruned(), drawn(0.0), *fitted, *judged]
