"""Keyed smooth functions of an image: near images have near values, and nobody without the key can tell them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_count, check_random_key, check_range
from pp_jax.pytree import pytree

WAVES = 128
"""Cosines that a field is the sum of."""
_IMAGES = 400


@pytree
@dataclasses.dataclass(frozen=True)
class Fields:
    """Random smooth functions of the blurred pixels: draws of a Gaussian process, made of a key.

    g_c(x) = √(2/F) Σ_f a_cf cos(⟨w_f, B(x)⟩ + φ_f),   a_cf ~ N(0, 1),  w_f ~ N(0, ℓ⁻² I),  φ_f uniform

    with B the image scaled down to at most `side` pixels and ℓ the length over which a function changes its value. Each
    g_c has variance 1 and correlation exp(−‖B(x) − B(x′)‖²/2ℓ²) between two images.

    Attributes:
        frequencies: w, (F, D).
        phases: φ, (F,).
        amplitudes: a, (C, F).
        side: longer side of B(x); static.
    """

    frequencies: jax.Array
    phases: jax.Array
    amplitudes: jax.Array
    side: int = dataclasses.field(metadata={"static": True})

    @classmethod
    def drawn(cls, key: jax.Array, images: Any, *, outputs: int, width: float = 1.0, side: int = 8) -> Fields:
        """Draw fields for images like these.

        Args:
            key: the defender's.
            images: of the victim's distribution, (N, H, W, C); at most 400 are looked at.
            outputs: C, at least 1.
            width: ℓ in medians of the distance between two of the images, above 0.
            side: longer side that images are scaled down to, at least 1.

        Raises:
            ValueError: for a number out of range.
        """
        check_random_key(key)
        check_count("outputs", outputs, low=1)
        check_count("side", side, low=1)
        check_range("width", width, low=0, high=1e6, open_low=True)
        rows = np.asarray(jax.vmap(lambda image: blurred(image, side))(jnp.asarray(images[:_IMAGES])))
        scale = width * max(_median_distance(rows), 1e-3)
        frequency_key, phase_key, amplitude_key = jax.random.split(key, 3)
        return cls(
            jax.random.normal(frequency_key, (WAVES, rows.shape[1])) / scale,
            jax.random.uniform(phase_key, (WAVES,), maxval=2 * np.pi),
            jax.random.normal(amplitude_key, (outputs, WAVES)),
            side,
        )

    def __call__(self, image: jax.Array) -> jax.Array:
        """The values at one image, (C,)."""
        waves = jnp.cos(self.frequencies @ blurred(image, self.side) + self.phases)
        return jnp.sqrt(2 / WAVES) * (self.amplitudes @ waves)


def blurred(image: jax.Array, side: int) -> jax.Array:
    """The pixels of an image scaled down until no side is longer than `side`, in [0, 1], (D,)."""
    height, width, channels = image.shape
    shrink = min(1.0, side / max(height, width))
    size = (max(1, round(shrink * height)), max(1, round(shrink * width)), channels)
    scale = 255 if image.dtype == jnp.uint8 else 1
    return jax.image.resize(image.astype(jnp.float32) / scale, size, "linear").ravel()


def _median_distance(rows: np.ndarray) -> float:
    """The median distance between two different rows; 1 where there is one alone."""
    if len(rows) < 2:
        return 1.0
    squared = np.sum(rows**2, axis=1)
    apart = squared[:, None] + squared - 2 * rows @ rows.T
    return float(np.median(np.sqrt(np.maximum(apart[np.triu_indices(len(rows), 1)], 0))))
