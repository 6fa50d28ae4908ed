"""Images made to look like another set's, as an attacker fits its pool to the victim's data."""

from typing import Any

import numpy as np
from PIL import Image


def as_mnist(images: Any, *, inner: int = 20) -> np.ndarray:
    """Bright shapes shrunk into a square of 20 pixels and centred by their mass in the frame, as MNIST's are.

    The bounding box of what is brighter than a tenth is scaled so that its longer side is `inner`, and moved so that
    the centre of mass is the centre of the image.

    Args:
        images: (N, H, W, 1) uint8, bright on black.
        inner: side of the square.

    Returns:
        (N, H, W, 1) uint8; an image without anything bright stays as it is.

    Raises:
        ValueError: for images of another form.

    Source: LeCun, Cortes, Burges, "The MNIST database": size-normalised into 20 × 20, centred by centre of mass.
    """
    pictures = np.asarray(images)
    if pictures.ndim != 4 or pictures.shape[-1] != 1 or pictures.dtype != np.uint8:
        raise ValueError(f"images must be (N, H, W, 1) uint8, not {pictures.shape} {pictures.dtype}")
    return np.stack([_one(picture[..., 0], inner)[..., None] for picture in pictures])


def _one(picture: np.ndarray, inner: int) -> np.ndarray:
    height, width = picture.shape
    rows, columns = np.nonzero(picture > 25)
    if len(rows) == 0:
        return picture
    box = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = inner / max(box.shape)
    size = max(1, round(box.shape[1] * scale)), max(1, round(box.shape[0] * scale))
    small = np.asarray(Image.fromarray(box).resize(size, Image.Resampling.LANCZOS), np.float64)
    total = max(float(small.sum()), 1e-9)
    down = (small.sum(axis=1) * np.arange(small.shape[0])).sum() / total
    right = (small.sum(axis=0) * np.arange(small.shape[1])).sum() / total
    top = int(np.clip(round((height - 1) / 2 - down), 0, height - small.shape[0]))
    left = int(np.clip(round((width - 1) / 2 - right), 0, width - small.shape[1]))
    out = np.zeros_like(picture)
    out[top : top + small.shape[0], left : left + small.shape[1]] = small.round().astype(np.uint8)
    return out
