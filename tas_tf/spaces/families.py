"""Block families as data: the layers of a block, and the positions of blocks in a network.

The search space, the supernet, the compiled model and the cost all read these descriptions.
docs/add_a_block_family.md adds a family, file by file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tas_tf.errors import SpecError


@dataclasses.dataclass(frozen=True)
class Unit:
    """One convolution of a block, with its batch normalization.

    Args:
        name: Name of the unit within its block.
        kernel: Height and width of the kernel, odd numbers.
        widening: Output channels of the unpruned network, in multiples of the stage's base width.
        relu: Whether a ReLU follows inside the block.
        strided: Whether this unit carries the block's stride.
    """

    name: str
    kernel: tuple[int, int]
    widening: int = 1
    relu: bool = True
    strided: bool = False


@dataclasses.dataclass(frozen=True)
class Block:
    """A residual block: its units in order; the shortcut leads from its input to its end.

    Args:
        name: The name that architecture files use.
        units: The units. Kernels are odd, one unit is strided, and all but the last have a ReLU.

    Raises:
        ValueError: If the units break these rules.
    """

    name: str
    units: tuple[Unit, ...]

    def __post_init__(self) -> None:
        for unit in self.units:
            if any(side % 2 == 0 for side in unit.kernel):
                raise ValueError(
                    f"{self.name}, {unit.name}: expected a kernel of odd height and width. "
                    f"Received: {unit.kernel}"
                )
            last = unit is self.units[-1]
            if unit.relu == last:
                wanted = "no ReLU in the last unit" if last else "a ReLU after this unit"
                raise ValueError(
                    f"{self.name}, {unit.name}: expected {wanted}. Received: relu={unit.relu}"
                )
        strided = [unit.name for unit in self.units if unit.strided]
        if len(strided) != 1:
            raise ValueError(f"{self.name}: expected one strided unit. Received: {strided}")


BASIC = Block(
    "basic",
    (Unit("conv1", (3, 3), strided=True), Unit("conv2", (3, 3), relu=False)),
)
BOTTLENECK = Block(
    "bottleneck",
    (
        Unit("conv1", (1, 1)),
        Unit("conv2", (3, 3), strided=True),
        Unit("conv3", (1, 1), widening=4, relu=False),
    ),
)
BLOCKS = {block.name: block for block in (BASIC, BOTTLENECK)}


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of networks: stem, stages, and what its shortcuts look like.

    Args:
        name: The name that architecture files use.
        stem_kernel: Height and width of the stem's kernel.
        stem_stride: Stride of the stem.
        stem_pool: Whether a 3x3 max pooling of stride 2 follows the stem.
        stem_width: Output channels of the unpruned stem.
        base_widths: Base width of every stage.
        strides: Stride of the first block of every stage.
        normalized_projections: Pairs (block name, stride) whose projection shortcut has batch
            normalization in a derived network. In a supernet every projection has it.
        proportional_depths: Depth candidates in proportion to the shallowest stage (ImageNet);
            otherwise 1, 3, 5, ... and the whole stage (CIFAR).
        zero_last_scale: Whether each block's last normalization starts with scale zero.
        input_shape: The usual (height, width, channels).
    """

    name: str
    stem_kernel: tuple[int, int]
    stem_stride: int
    stem_pool: bool
    stem_width: int
    base_widths: tuple[int, ...]
    strides: tuple[int, ...]
    normalized_projections: frozenset[tuple[str, int]]
    proportional_depths: bool
    zero_last_scale: bool
    input_shape: tuple[int, int, int]


CIFAR_RESNET = Family(
    name="cifar_resnet",
    stem_kernel=(3, 3),
    stem_stride=1,
    stem_pool=False,
    stem_width=16,
    base_widths=(16, 32, 64),
    strides=(1, 2, 2),
    normalized_projections=frozenset({("basic", 1)}),
    proportional_depths=False,
    zero_last_scale=False,
    input_shape=(32, 32, 3),
)
IMAGENET_RESNET = Family(
    name="imagenet_resnet",
    stem_kernel=(7, 7),
    stem_stride=2,
    stem_pool=True,
    stem_width=64,
    base_widths=(64, 128, 256, 512),
    strides=(1, 2, 2, 2),
    normalized_projections=frozenset(
        (block, stride) for block in ("basic", "bottleneck") for stride in (1, 2)
    ),
    proportional_depths=True,
    zero_last_scale=True,
    input_shape=(224, 224, 3),
)
FAMILIES = {family.name: family for family in (CIFAR_RESNET, IMAGENET_RESNET)}

IMAGENET_DEPTHS = {
    18: (BASIC, (2, 2, 2, 2)),
    34: (BASIC, (3, 4, 6, 3)),
    50: (BOTTLENECK, (3, 4, 6, 3)),
}


def resnet_blocks(
    depth: int, family: Family, block: str | None = None
) -> tuple[Block, tuple[int, ...]]:
    """Returns the block and the number of blocks in each stage of the unpruned ResNet.

    Args:
        depth: Number of layers, as in the network's name: 6n+2 (basic) or 9n+2 (bottleneck) in
            the CIFAR family; 18, 34 or 50 in the ImageNet family.
        family: The family.
        block: `basic` or `bottleneck`; by default the usual one of that depth.

    Raises:
        SpecError: If the family has no network of that depth.
    """
    if family is IMAGENET_RESNET:
        if depth not in IMAGENET_DEPTHS:
            raise SpecError(
                f"depth: {family.name} has the depths {sorted(IMAGENET_DEPTHS)}. Received: {depth}"
            )
        usual, blocks_per_stage = IMAGENET_DEPTHS[depth]
        if block not in (None, usual.name):
            raise SpecError(f"block: ResNet-{depth} is made of {usual.name}. Received: {block!r}")
        return usual, blocks_per_stage
    if block not in (None, *BLOCKS):
        raise SpecError(f"block: expected one of {sorted(BLOCKS)}. Received: {block!r}")
    if block is None:
        block = "bottleneck" if depth >= 164 and (depth - 2) % 9 == 0 else "basic"
    period = 3 * len(BLOCKS[block].units)
    count, rest = divmod(depth - 2, period)
    if rest or count < 1:
        near = [period * n + 2 for n in (count, count + 1) if n >= 1] or [period + 2]
        raise SpecError(
            f"depth: a {family.name} of {block} blocks has {period}n+2 layers, "
            f"so for instance {' or '.join(map(str, near))}. Received: {depth}"
        )
    return BLOCKS[block], (count,) * len(family.base_widths)


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution or the classifier where it stands in a network: all but its widths.

    Args:
        name: Unique name of the layer.
        kind: `convolution`, `projection` (average pooling where the stride is 2, then 1x1) or
            `classifier`.
        kernel: Height and width of the kernel.
        stride: Stride.
        size: Height and width of the output.
        in_size: Height and width of the input.
        normalized: Whether batch normalization follows.
        relu: Whether a ReLU follows directly.
        entry_size: Height and width of the block's input, which waits for the shortcut while this
            layer runs; None where nothing waits but the layer's own input.
        pooled_size: Height and width after the pooling that follows the stem or precedes a
            projection; None without.
    """

    name: str
    kind: str
    kernel: tuple[int, int]
    stride: int
    size: tuple[int, int]
    in_size: tuple[int, int]
    normalized: bool = True
    relu: bool = False
    entry_size: tuple[int, int] | None = None
    pooled_size: tuple[int, int] | None = None


# A layer that is built: the layer, its input and output channels, its block's input channels.
Placed = tuple[Layer, int, int, int]


@dataclasses.dataclass(frozen=True)
class BlockLayers:
    """The layers of one block; whether the projection is built depends on the widths."""

    units: tuple[Layer, ...]
    projection: Layer

    def needs_projection(self, in_channels: int, out_channels: int) -> bool:
        """A projection stands wherever the stride is 2 or the block's two widths differ."""
        return self.projection.stride != 1 or in_channels != out_channels


@dataclasses.dataclass(frozen=True)
class Outline:
    """Where every layer of a network stands, widths left open."""

    stem: Layer
    stages: tuple[tuple[BlockLayers, ...], ...]
    classifier: Layer


def outline(
    family: Family, block: Block, blocks_per_stage: Sequence[int], input_shape: Sequence[int]
) -> Outline:
    """Returns the outline of a network; sizes round up at every stride.

    Args:
        family: Family, which fixes stem, strides and shortcut normalization.
        block: Block of all stages.
        blocks_per_stage: Number of blocks of every stage.
        input_shape: (height, width, channels) of the images.
    """
    image_size = (input_shape[0], input_shape[1])
    size = _strided(image_size, family.stem_stride)
    pooled = _strided(size, 2) if family.stem_pool else None
    stem = Layer(
        name="stem",
        kind="convolution",
        kernel=family.stem_kernel,
        stride=family.stem_stride,
        size=size,
        in_size=image_size,
        relu=True,
        pooled_size=pooled,
    )
    size = pooled or size
    stages = []
    for stage, count in enumerate(blocks_per_stage):
        blocks = []
        for index in range(count):
            name = f"stage{stage + 1}_block{index + 1}"
            stride = family.strides[stage] if index == 0 else 1
            blocks.append(_block_layers(family, block, name, stride, size))
            size = _strided(size, stride)
        stages.append(tuple(blocks))
    classifier = Layer(
        name="classifier",
        kind="classifier",
        kernel=(1, 1),
        stride=1,
        size=(1, 1),
        in_size=size,
        normalized=False,
    )
    return Outline(stem, tuple(stages), classifier)


def _block_layers(
    family: Family, block: Block, name: str, stride: int, entry_size: tuple[int, int]
) -> BlockLayers:
    units: list[Layer] = []
    size = entry_size
    for unit in block.units:
        unit_stride = stride if unit.strided else 1
        in_size, size = size, _strided(size, unit_stride)
        units.append(
            Layer(
                name=f"{name}_{unit.name}",
                kind="convolution",
                kernel=unit.kernel,
                stride=unit_stride,
                size=size,
                in_size=in_size,
                relu=unit.relu,
                entry_size=entry_size if units else None,
            )
        )
    projection = Layer(
        name=f"{name}_projection",
        kind="projection",
        kernel=(1, 1),
        stride=stride,
        size=size,
        in_size=entry_size,
        normalized=(block.name, stride) in family.normalized_projections,
        pooled_size=size if stride > 1 else None,
    )
    return BlockLayers(tuple(units), projection)


def _strided(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)
