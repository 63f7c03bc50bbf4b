"""What tests of pictures draw, and the texts that a reader finds in them."""

import xml.etree.ElementTree

import numpy as np

from tas_tf.reports import canvas

RECORDS = [
    {
        "epoch": epoch,
        "loss": 2 / epoch,
        "accuracy": 1 - 1 / epoch,
        "architecture_loss": 3 / epoch,
        "architecture_accuracy": 0.9 - 1 / epoch,
        "expected_macs_ratio": 0.7 - epoch / 100,
        "argmax_macs_ratio": 0.8 - epoch / 100,
        "temperature": 10 / epoch,
        "width_entropy": 1 - epoch / 50,
    }
    for epoch in range(1, 21)
]


def some_architecture(space, seed=0):
    """An architecture of a space, drawn at random."""
    random = np.random.default_rng(seed)
    return space.architecture(
        [random.integers(len(choice.candidates)) for choice in space.choices],
        [random.integers(len(stage)) for stage in space.depths],
    )


def uniform(space):
    """Probabilities of widths and of depths, the same for all candidates."""
    sizes = [[len(choice.candidates) for choice in space.choices], [len(d) for d in space.depths]]
    return [
        np.array([[1 / n if k < n else 0 for k in range(max(counts))] for n in counts])
        for counts in sizes
    ]


def texts(figure) -> list[str]:
    """The texts of a picture, as a reader of its SVG finds them."""
    root = xml.etree.ElementTree.fromstring(canvas.svg(figure, "picture"))
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
