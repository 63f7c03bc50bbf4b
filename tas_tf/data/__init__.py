"""Images: their sources, splits, augmentations and batches.

Comes in: the name of a data set or a folder, and a seed. Goes out: `Feed`, batches of normalized
images and labels that are a function of (seed, step), and a record of what was read. Sources,
splits and augmentations may be changed here alone.
"""

from tas_tf.data.batches import Feed
from tas_tf.data.image_data import DataInfo, ImageData, paired

__all__ = ["DataInfo", "Feed", "ImageData", "paired"]
