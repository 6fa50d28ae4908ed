"""Random changes to training images, as published, on the device: pure functions of a key and one image.

Each takes one (H, W, C) image, uint8 or floating point in [0, 1], and keeps its dtype. All are hashable, and equal when
they do the same, so that `jit` compiles one program for them.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]
"""(key, image) to image."""

_ATTEMPTS = 10


def random_flip(key: jax.Array, image: jax.Array) -> jax.Array:
    """Exchange left and right with probability ½.

    Args:
        key: PRNG key.
        image: (H, W, C).

    Returns:
        (H, W, C).

    Raises:
        ValueError: if `image` has another number of axes.
    """
    _check_image(image)
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def random_crop(key: jax.Array, image: jax.Array, *, padding: int = 4) -> jax.Array:
    """Shift an image by up to `padding` pixels along each axis, every shift alike; what enters is black (0).

    Args:
        key: PRNG key.
        image: (H, W, C).
        padding: pixels put around the image before it is cropped to its old size, at least 0.

    Returns:
        (H, W, C).

    Raises:
        ValueError: if `padding` is negative or `image` has another number of axes.

    Source: He et al. (2016), section 4.2.
    """
    _check_image(image)
    if padding < 0:
        raise ValueError(f"padding={padding} must be at least 0.")
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def random_resized_crop(
    key: jax.Array,
    image: jax.Array,
    *,
    size: tuple[int, int] = (224, 224),
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> jax.Array:
    """Cut out a rectangle of random area, aspect ratio and place, and resample it to one size.

    The area is uniform on `scale`·H·W, the logarithm of width/height uniform on that of `ratio`; of ten draws the
    first that fits is taken, and if none does the largest centred rectangle within `ratio`, as torchvision does.
    Resampling is by a triangle (bilinear), widened to the step where it shrinks, over the pixels of the rectangle
    alone: torchvision's default, `antialias=True`. uint8 is rounded once, where PIL rounds after each axis.

    Args:
        key: PRNG key.
        image: (H, W, C).
        size: (H', W') of the result.
        scale: smallest and largest share of the area, within (0, 1].
        ratio: smallest and largest width/height, positive.

    Returns:
        (H', W', C).

    Raises:
        ValueError: if an option is out of range or `image` has another number of axes.

    Source: Szegedy et al. (2015), section 6.
    """
    _check_image(image)
    if min(size) < 1:
        raise ValueError(f"size={size} must be at least 1 in both directions.")
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale={scale} must rise within (0, 1].")
    if not 0 < ratio[0] <= ratio[1] < math.inf:
        raise ValueError(f"ratio={ratio} must rise and be positive.")
    starts, lengths = _rectangle(key, image.shape[:2], scale, ratio)
    dtype = jnp.promote_types(image.dtype, jnp.float32) if jnp.issubdtype(image.dtype, jnp.floating) else jnp.float32
    rows, columns = (
        _resampling(start, length, old, new, dtype)
        for start, length, old, new in zip(starts, lengths, image.shape[:2], size, strict=True)
    )
    resized = jnp.einsum("ph,hwc,qw->pqc", rows, image.astype(dtype), columns, precision="highest")
    if image.dtype == jnp.uint8:
        return jnp.clip(jnp.round(resized), 0, 255).astype(jnp.uint8)
    return jnp.clip(resized, 0, 1).astype(image.dtype)


@dataclasses.dataclass(frozen=True)
class Bound:
    """An augmentation with its options, equal to another of the same function and options: see `bind`."""

    function: Callable[..., jax.Array]
    options: tuple[tuple[str, Any], ...]

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """The function's image."""
        return self.function(key, image, **dict(self.options))


@dataclasses.dataclass(frozen=True)
class Composed:
    """Several augmentations one after the other, each with a key of its own: see `compose`."""

    steps: tuple[Augmentation, ...]

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """The last step's image."""
        for index, step in enumerate(self.steps):
            image = step(jax.random.fold_in(key, index), image)
        return image


def bind(function: Callable[..., jax.Array], **options: Any) -> Bound:
    """An augmentation with options, e.g. `bind(random_crop, padding=2)`; unlike `functools.partial`, equal when equal.

    Args:
        function: (key, image, **options) to image.
        **options: numbers or tuples.

    Returns:
        (key, image) to image, hashable.

    Raises:
        ValueError: if an option is not hashable.
    """
    for name, value in options.items():
        try:
            hash(value)
        except TypeError as error:
            raise ValueError(f"{name}={value} must be hashable: give a number or a tuple.") from error
    return Bound(function, tuple(sorted(options.items())))


def compose(*steps: Augmentation) -> Composed:
    """Several augmentations one after the other, each with a key of its own; none is the identity.

    Args:
        *steps: functions (key, image) to image, hashable.

    Returns:
        (key, image) to image, hashable.
    """
    return Composed(steps)


CIFAR = compose(random_crop, random_flip)
"""For images of 32×32: shifts by up to 4 pixels, and flips."""

IMAGENET = compose(random_resized_crop, random_flip)
"""For photographs: rectangles resampled to 224×224, and flips."""


def augmented(key: jax.Array, images: jax.Array, augment: Augmentation | None) -> jax.Array:
    """Each image changed with a key of its own; the images as they are where there is no augmentation.

    Args:
        key: PRNG key.
        images: (B, H, W, C).
        augment: (key, image) to image, or None.

    Returns:
        (B, H, W, C).
    """
    return images if augment is None else jax.vmap(augment)(jax.random.split(key, len(images)), images)


def _check_image(image: jax.Array) -> None:
    """Refuse all but one image."""
    if jnp.ndim(image) != 3:
        raise ValueError(f"image shape {jnp.shape(image)} must have 3 axes (height, width, channels): use vmap.")


def _rectangle(
    key: jax.Array, shape: tuple[int, ...], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[jax.Array, jax.Array]:
    """(top, left) and (height, width) of a random rectangle in whole pixels."""
    draw_key, place_key = jax.random.split(key)
    sides = jnp.asarray(shape)
    area_draw, ratio_draw = jax.random.uniform(draw_key, (2, _ATTEMPTS))
    area = math.prod(shape) * (scale[0] + (scale[1] - scale[0]) * area_draw)
    aspect = ratio[0] * (ratio[1] / ratio[0]) ** ratio_draw
    drawn = jnp.round(jnp.sqrt(jnp.stack([area / aspect, area * aspect], axis=1))).astype(jnp.int32)
    fits = ((drawn > 0) & (drawn <= sides[None])).all(axis=1)
    lengths = jnp.where(fits.any(), drawn[jnp.argmax(fits)], jnp.asarray(_largest(shape, ratio)))
    places = jax.random.randint(place_key, (2,), 0, sides - lengths + 1)
    return jnp.where(fits.any(), places, (sides - lengths) // 2), lengths


def _largest(shape: tuple[int, ...], ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest rectangle within an image whose width/height lies within `ratio`."""
    height, width = shape
    return max(1, min(height, round(width / ratio[0]))), max(1, min(width, round(height * ratio[1])))


def _resampling(start: jax.Array, length: jax.Array, old: int, new: int, dtype: Any) -> jax.Array:
    """Matrix (new, old) that resamples `length` pixels from `start` on to `new` ones: a triangle around each centre."""
    step = length.astype(dtype) / new
    centres = start.astype(dtype) + (jnp.arange(new, dtype=dtype) + 0.5) * step
    pixels = jnp.arange(old)
    distances = jnp.abs(pixels[None] + 0.5 - centres[:, None]) / jnp.maximum(step, 1)
    inside = (pixels >= start) & (pixels < start + length)
    weights = jnp.where(inside[None], jnp.maximum(1 - distances, 0), 0)
    return weights / weights.sum(axis=1, keepdims=True)
