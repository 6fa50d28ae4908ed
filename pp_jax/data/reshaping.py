"""Images made to look like another set's, as an attacker fits its pool to the victim's data."""

import dataclasses
from typing import Any

import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Centred:
    """A pool made to look like centred digits, by an attacker who knows that this is what the victim reads.

    Every image's bright shape is scaled so that the longer side of its box is a share of the frame's shorter side, and
    centred by its mass (`as_mnist`). Nothing is fitted to the victim's data, of which an attacker has none: the share,
    MNIST's 20 of 28, is public. For a victim that reads something else (photographs, dark shapes on white, shapes off
    the centre) it is a guess like any other, which may lose; the worst case is taken over all attackers.

    Attributes:
        share: of the frame, in (0, 1].

    Raises:
        ValueError: for a share out of range.
    """

    share: float = 20 / 28

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}: must be above 0 and at most 1")

    def applies_to(self, images: Any) -> bool:
        """To images of one channel; a colour photograph has no bright shape to centre."""
        return np.shape(images)[-1] == 1

    def __call__(self, images: Any) -> np.ndarray:
        """The images (N, H, W, 1) reshaped, of the same type; floating-point pixels are rounded to 255ths."""
        images = np.asarray(images)
        inner = max(1, round(self.share * min(images.shape[1:3])))
        if images.dtype == np.uint8:
            return as_mnist(images, inner=inner)
        return (as_mnist(np.round(255 * images).astype(np.uint8), inner=inner) / 255).astype(images.dtype)


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
