"""How images of benign users differ from those a model was trained on: turned, moved, blurred, paler, noisy, thicker.

Each drift is a value that is called as `drift(key, image)` for one image in [0, 1], (H, W, C), and returns an image of
the same shape in [0, 1]; `drifted` applies one to many.
"""

import dataclasses
import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates


class Drift(Protocol):
    """A change of one image; hashable."""

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Return the changed image, (H, W, C) in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class Rotated:
    """Turned about its centre by an angle, to either side; what comes in from outside is black."""

    degrees: float = 15.0

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Return the image sampled at turned coordinates, linearly interpolated."""
        angle = jnp.deg2rad(self.degrees) * jax.random.rademacher(key, ()).astype(jnp.float32)
        height, width, _ = image.shape
        rows, columns = jnp.mgrid[:height, :width].astype(jnp.float32)
        rows, columns = rows - (height - 1) / 2, columns - (width - 1) / 2
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        places = [cos * rows - sin * columns + (height - 1) / 2, sin * rows + cos * columns + (width - 1) / 2]
        return jax.vmap(lambda channel: map_coordinates(channel, places, order=1), in_axes=2, out_axes=2)(image)


@dataclasses.dataclass(frozen=True)
class Shifted:
    """Moved by so many pixels up or down and left or right; what comes in from outside is black."""

    pixels: int = 2

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Return a window of the image with a black border."""
        border = jnp.pad(image, ((self.pixels, self.pixels), (self.pixels, self.pixels), (0, 0)))
        corner = 2 * self.pixels * jax.random.bernoulli(key, shape=(2,)).astype(jnp.int32)
        return jax.lax.dynamic_slice(border, (corner[0], corner[1], 0), image.shape)


@dataclasses.dataclass(frozen=True)
class Blurred:
    """Smoothed by a Gaussian of standard deviation σ, in pixels."""

    sigma: float = 1.0

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Return the image convolved with the Gaussian, cut at 3σ, along both axes."""
        del key
        reach = int(np.ceil(3 * self.sigma))
        weights = jnp.exp(-0.5 * (jnp.arange(-reach, reach + 1) / self.sigma) ** 2)
        along = functools.partial(jnp.convolve, v=weights / jnp.sum(weights), mode="same")
        rows = jax.vmap(jax.vmap(along, 1, 1), 2, 2)(image)
        return jax.vmap(jax.vmap(along, 0, 0), 2, 2)(rows)


@dataclasses.dataclass(frozen=True)
class Contrasted:
    """Contrast about the image's mean multiplied by a factor."""

    factor: float = 0.5

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Return clip(m + factor · (x − m))."""
        del key
        mean = jnp.mean(image)
        return jnp.clip(mean + self.factor * (image - mean), 0, 1)


@dataclasses.dataclass(frozen=True)
class Noisy:
    """Gaussian noise of a standard deviation added to every pixel."""

    deviation: float = 0.1

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Return clip(x + noise)."""
        return jnp.clip(image + self.deviation * jax.random.normal(key, image.shape), 0, 1)


@dataclasses.dataclass(frozen=True)
class Thickened:
    """Bright strokes made thicker: each pixel half-way to the largest of its four neighbours and itself."""

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Return (x + max over the cross) / 2 where that is brighter."""
        del key
        return (image + _cross(image, jnp.maximum)) / 2


@dataclasses.dataclass(frozen=True)
class Thinned:
    """Bright strokes made thinner: each pixel half-way to the smallest of its four neighbours and itself."""

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Return (x + min over the cross) / 2 where that is darker."""
        del key
        return (image + _cross(image, jnp.minimum)) / 2


DRIFTS: tuple[Drift, ...] = (
    Rotated(),
    Shifted(1),
    Shifted(2),
    Blurred(),
    Contrasted(),
    Noisy(),
    Thickened(),
    Thinned(),
)
"""What benign users' images of handwritten digits are expected to bear."""


def drifted(key: jax.Array, images: Any, drift: Drift) -> jax.Array:
    """Apply a drift to many images, each with a key of its own.

    Args:
        key: randomness.
        images: (N, H, W, C), uint8 or floating point in [0, 1].
        drift: what happens to each.

    Returns:
        (N, H, W, C), float32 in [0, 1].
    """
    images = jnp.asarray(images)
    scale = 255 if images.dtype == jnp.uint8 else 1
    return _drifted(drift, jax.random.split(key, len(images)), images.astype(jnp.float32) / scale)


@functools.partial(jax.jit, static_argnums=0)
def _drifted(drift: Drift, keys: jax.Array, images: jax.Array) -> jax.Array:
    return jnp.clip(jax.vmap(drift)(keys, images), 0, 1)


def _cross(image: jax.Array, choose: Any) -> jax.Array:
    """The largest (or smallest) of each pixel and its four neighbours; borders count as the pixel next to them."""
    wide = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = (wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:])
    return functools.reduce(choose, around, image)
