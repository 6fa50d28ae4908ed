"""DeepFool: how far an image is from the nearest decision boundary of a network."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import as_pixels, check_count
from pp_jax.types import LogitsFn, Params

_TINY = 1e-12


def margins(
    logits_fn: LogitsFn,
    params: Params,
    images: Any,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    classes: int = 10,
    batch_size: int = 100,
) -> np.ndarray:
    """The L2 norms of the perturbations by which DeepFool changes the classes of images.

    r ← r + (|f_l|/‖w_l‖²) w_l,  l = argmin_k |f_k|/‖w_k‖,  w_k = ∇(z_k − z_c), f_k = z_k − z_c at x + (1 + o) r

    until the class is no longer c = argmax z(x). For a linear network the norm is (1 + o) times the distance to the
    nearest boundary, after one step. Pixels are not clipped, as published.

    Args:
        logits_fn: the network.
        params: its parameters.
        images: (N, H, W, C), uint8 or floating point in [0, 1].
        steps: at most.
        overshoot: o.
        classes: how many are tried, the largest logits of the image.
        batch_size: images on the device at once; the last batch is filled up.

    Returns:
        Norms in pixel units, (N,); infinity for an image whose class does not change within the steps.

    Raises:
        ValueError: for no images, other than pixels, or counts below 1.

    Source: Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool", CVPR 2016.
    """
    images = as_pixels(images)
    for name, value in (("steps", steps), ("classes", classes), ("batch_size", batch_size)):
        check_count(name, value, low=1)
    parts = []
    for first in range(0, len(images), batch_size):
        index = np.minimum(np.arange(first, first + batch_size), len(images) - 1)
        part = _margins(params, images[index], overshoot, logits_fn=logits_fn, steps=steps, classes=classes)
        parts.append(np.asarray(part)[: len(images) - first])
    return np.concatenate(parts)


def _margin(logits_fn: LogitsFn, params: Params, image: jax.Array, overshoot: Any, steps: int, classes: int) -> Any:
    """The norm for one image with floating-point pixels."""
    order = jax.lax.top_k(logits_fn(params, image), min(classes, len(logits_fn(params, image))))[1]

    def gaps(x: jax.Array) -> jax.Array:
        """z_k − z_c of the other classes that are tried."""
        logits = logits_fn(params, x)[order]
        return logits[1:] - logits[0]

    def goes_on(state: Any) -> jax.Array:
        number, _, fooled = state
        return (number < steps) & ~fooled

    def step(state: Any) -> Any:
        number, moved, _ = state
        at = image + (1 + overshoot) * moved
        found, normals = gaps(at), jax.jacrev(gaps)(at)
        squares = jnp.sum(normals.reshape(len(found), -1) ** 2, axis=1)
        distances = jnp.where(squares > _TINY, jnp.abs(found) / jnp.sqrt(jnp.maximum(squares, _TINY)), jnp.inf)
        nearest = jnp.argmin(distances)
        length = jnp.where(squares[nearest] > _TINY, (jnp.abs(found[nearest]) + 1e-6) / squares[nearest], 0.0)
        moved = moved + length * normals[nearest]
        fooled = jnp.max(gaps(image + (1 + overshoot) * moved)) > 0
        return number + 1, moved, fooled

    # An image that sits on a boundary needs no step.
    begin = (0, jnp.zeros_like(image), jnp.max(gaps(image)) > 0)
    _, moved, fooled = jax.lax.while_loop(goes_on, step, begin)
    return jnp.where(fooled, (1 + overshoot) * jnp.linalg.norm(moved), jnp.inf)


def _batch(
    params: Params, images: jax.Array, overshoot: Any, *, logits_fn: LogitsFn, steps: int, classes: int
) -> jax.Array:
    """The norms of one batch."""
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    return jax.vmap(lambda image: _margin(logits_fn, params, image, overshoot, steps, classes))(images)


_margins = jax.jit(_batch, static_argnames=("logits_fn", "steps", "classes"))
