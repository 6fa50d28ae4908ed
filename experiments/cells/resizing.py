"""Images of one data set at the size of another's."""

import dataclasses
from typing import Any


def resized(images: Any, image_shape: tuple[int, int, int]) -> Any:
    """A data set with its images scaled to a victim's size: area average or bicubic, by Pillow."""
    import numpy as np
    from PIL import Image

    height, width, _ = image_shape
    smaller = images.image_shape[0] >= height and images.image_shape[1] >= width
    method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    scaled = [np.asarray(Image.fromarray(image.squeeze()).resize((width, height), method)) for image in images.images]
    return dataclasses.replace(images, images=np.stack(scaled).reshape(len(images), height, width, -1))
