"""Recoveries without a model of the defense: believe the top class alone, or average over copies of an image."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from pp_jax._checks import as_images, check_answers, check_count, check_random_key
from pp_jax.serving import perturbation
from pp_jax.serving.answers import shaped
from pp_jax.serving.blackbox import API
from pp_jax.training.augmentation import Augmentation

_DEGREES, _SCALE, _SHIFT = 10.0, 0.1, 2.0


def top1(answers: Any) -> np.ndarray:
    """The one-hot of the top class, e_k with k = argmax ỹ (first index on ties).

    Args:
        answers: ỹ, (N, K).

    Returns:
        Targets, (N, K), in the responses' precision, on the host.

    Raises:
        ValueError: for responses off the simplex.
    """
    check_answers(answers)
    answers = np.asarray(answers)
    return np.eye(answers.shape[1], dtype=answers.dtype)[answers.argmax(1)]


def nudge(key: jax.Array, image: jax.Array) -> jax.Array:
    """Turn an image by up to 10°, scale it by up to 10 % and shift it by up to 2 pixels; what enters is black (0).

    Resampling is bilinear; uint8 is rounded once.

    Args:
        key: PRNG key.
        image: (H, W, C).

    Returns:
        (H, W, C), of the same type.
    """
    draws = jax.random.uniform(key, (4,), minval=-1)
    angle, size = math.pi / 180 * _DEGREES * draws[0], 1 + _SCALE * draws[1]
    height, width, _ = image.shape
    rows, columns = jnp.meshgrid(
        jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2, indexing="ij"
    )
    cos, sin = jnp.cos(angle) / size, jnp.sin(angle) / size
    places = [
        cos * rows - sin * columns + (height - 1) / 2 + _SHIFT * draws[2],
        sin * rows + cos * columns + (width - 1) / 2 + _SHIFT * draws[3],
    ]
    wide = image.astype(jnp.promote_types(image.dtype, jnp.float32))
    moved = jax.vmap(lambda plane: map_coordinates(plane, places, order=1), in_axes=2, out_axes=2)(wide)
    if image.dtype == jnp.uint8:
        return jnp.clip(jnp.round(moved), 0, 255).astype(jnp.uint8)
    return jnp.clip(moved, 0, 1).astype(image.dtype)


def smoothing(key: jax.Array, api: API, *, copies: int = 3, augment: Augmentation = nudge) -> API:
    """An API that asks about several changed copies of each image and averages their responses.

    ŷ(x) = (1/m) Σ_i api(a_i(x)),   a_i random changes, drawn from `key` and the content of x

    Every copy is a query. Put it around the meter, with a budget `copies` times that of the attack, so that each is
    counted: `collect(key, attack, pool, smoothing(key, Metered(api, 3000)), budget=1000)`.

    Args:
        key: randomness of the changes; the same image has the same copies.
        api: images (B, H, W, C) in, responses (B, K) out.
        copies: m, at least 1.
        augment: (key, image) to image, as those of `pp_jax.augmentation`; hashable.

    Returns:
        An API that costs m queries an image.

    Raises:
        ValueError: for a number of copies below 1; when asked, for images of another rank or dtype, or if the API
            returns another number of responses than it was asked for.
    """
    check_random_key(key)
    check_count("copies", copies, low=1)

    def ask(images: Any) -> np.ndarray:
        images = as_images(images)
        changed = np.asarray(_changed(key, jnp.asarray(images), copies, augment))
        answers = shaped(api(changed.reshape(-1, *changed.shape[2:])), copies * len(images))
        if answers.ndim != 2 or answers.shape[1] < 2:
            raise ValueError(f"the API must answer with posteriors (B, K) to be averaged, not labels {answers.shape}")
        return answers.reshape(len(images), copies, -1).mean(1)

    return ask


def _copies(key: jax.Array, images: jax.Array, copies: int, augment: Augmentation) -> jax.Array:
    """Changed copies of each image, (B, m, H, W, C)."""

    def one(image: jax.Array) -> jax.Array:
        keys = jax.random.split(perturbation.image_key(key, image), copies)
        return jax.vmap(augment, (0, None))(keys, image)

    return jax.vmap(one)(images)


_changed = jax.jit(_copies, static_argnames=("copies", "augment"))
