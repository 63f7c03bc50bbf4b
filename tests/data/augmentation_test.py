"""Augmentations: crops are windows of the original, some of them mirrored."""

import numpy as np
import pytest
import tensorflow as tf
from image_sets import arrays, numbered

from tas_tf.data import augmentation


@pytest.mark.parametrize("kind, flips", [("crop", False), ("crop_flip", True)])
def test_crops_are_shifted_originals(numbered_dir, held, kind, flips):
    images = numbered(numbered_dir, augmentation=kind, crop_padding=1)
    originals = arrays(images.training(240, 0, augment=False).batches(0, 1))[0]
    augmented = arrays(images.training(240, 0).batches(0, 1))[0]
    np.testing.assert_array_equal(augmented[1], originals[1])
    padded = np.pad(originals[0], [(0, 0), (1, 1), (1, 1), (0, 0)])
    found = [_window(*pair) for pair in zip(padded, augmented[0], strict=True)]
    windows = {(top, left, flip) for top in range(3) for left in range(3) for flip in (0, flips)}
    assert set(found) == windows


def _window(padded, image):
    """Finds where in a padded original an image was cut, and whether it is mirrored."""
    height, width = image.shape[:2]
    for top in range(padded.shape[0] - height + 1):
        for left in range(padded.shape[1] - width + 1):
            window = padded[top : top + height, left : left + width]
            for flip in (False, True):
                if np.array_equal(window[:, ::-1] if flip else window, image):
                    return top, left, flip
    raise AssertionError("not a window of the original")


def test_random_resized_crops_are_parts_of_the_image():
    # The red of a pixel says its column, the green its row.
    columns, rows = np.meshgrid(np.arange(250), np.arange(200))
    image = tf.constant(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8))
    crop = tf.function(lambda seed: augmentation.random_resized_crop(image, (64, 64), seed))
    areas, mirrored = [], []
    for number in range(100):
        part = crop(tf.constant([number, 0], tf.int64)).numpy().astype(int)
        assert part.shape == (64, 64, 3)
        steps = np.diff(part[0, :, 0])
        assert (steps >= 0).all() or (steps <= 0).all()
        assert (np.diff(part[:, 0, 1]) >= 0).all()
        mirrored.append(steps.sum() < 0)
        areas.append(np.ptp(part[..., 0]) * np.ptp(part[..., 1]) / (250 * 200))
    assert 0.06 < min(areas) < 0.15 and 0.8 < max(areas) <= 1
    assert 30 < sum(mirrored) < 70


def test_centre_crop_keeps_the_middle():
    columns, rows = np.meshgrid(np.arange(250), np.arange(128))
    image = tf.constant(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8))
    # The short side, 128, is what 112 asks for: nothing is resized.
    part = augmentation.centre_crop(image, (112, 112)).numpy()
    np.testing.assert_array_equal(part, image[8:120, 69:181])
