"""Recorded answers as a victim: a logits function that looks an image up, so that defenses can be put before it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax.serving.recorded import Recorded


@dataclasses.dataclass(frozen=True)
class AnsweredNetwork:
    """z = log y of the recorded posterior y of an image, so that softmax(z) = y; NaN for an image without one.

    An image is known by 64 bits computed from all of its pixels. Zeros count as the smallest positive number; a
    truncated posterior is normalised.
    """

    def __call__(self, params: Any, image: jax.Array) -> jax.Array:
        """The logits (K,) of one image."""
        table = params["answers"]
        here = (table["digests"] == _digest(image)[None]).all(axis=1)
        return jnp.where(here.any(), table["logits"][jnp.argmax(here)], jnp.nan)

    def missing(self, params: Any, images: Any) -> int:
        """How many of some images, (B, H, W, C), have no recorded answer."""
        known = set(map(bytes, np.asarray(params["answers"]["digests"])))
        return sum(bytes(digest) not in known for digest in _digests(images))


def table(api: Recorded) -> dict[str, Any]:
    """Recorded answers as parameters of an `AnsweredNetwork`."""
    images, answers = api.transfer
    if answers.ndim == 1:
        answers = np.eye(int(answers.max()) + 1, dtype=np.float32)[answers]
    _, first = np.unique(_digests(images), axis=0, return_index=True)
    rows = np.sort(first)
    logits = np.log(np.maximum(np.asarray(answers[rows], np.float32), np.finfo(np.float32).tiny))
    return {"answers": {"digests": jnp.asarray(_digests(images)[rows]), "logits": jnp.asarray(logits)}}


def _digests(images: Any) -> np.ndarray:
    """The digests of many images, (B, 2)."""
    parts = [np.asarray(_together(jnp.asarray(images[i : i + 1000]))) for i in range(0, len(images), 1000)]
    return np.concatenate(parts)


def _digest(image: jax.Array) -> jax.Array:
    """64 bits of an image, (2,) uint32: sums of its mixed pixels under fixed random weights."""
    if jnp.issubdtype(image.dtype, jnp.floating):
        width = image.dtype.itemsize
        image = jax.lax.bitcast_convert_type(image, {2: jnp.uint16, 4: jnp.uint32}[width])
    pixels = image.reshape(-1).astype(jnp.uint32)
    # The finalizer of MurmurHash3: without it, pixels that share their last bits would share those of the sums.
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        pixels = (pixels ^ (pixels >> shift)) * jnp.uint32(factor)
    weights = np.random.default_rng(0).integers(0, 1 << 32, (2, pixels.size), dtype=np.uint32)
    return jnp.sum(jnp.asarray(weights) * (pixels ^ (pixels >> 16))[None, :], axis=1, dtype=jnp.uint32)


_together = jax.jit(jax.vmap(_digest))
