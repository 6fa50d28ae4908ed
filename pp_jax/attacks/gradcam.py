"""Grad-CAM: where in an image a network sees a class."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax.gram.calls import Tapped
from pp_jax.types import Params


def check_spatial(network: Any, image: Any) -> None:
    """Refuse a network without a layer whose output lies on a grid; nothing is computed.

    Args:
        network: what is to be looked into.
        image: (H, W, C), or something of its shape and type.

    Raises:
        ValueError: naming its class.
    """
    kind = type(getattr(network, "module", network)).__name__
    if not isinstance(network, Tapped) or not hasattr(network, "init"):
        raise ValueError(f"Grad-CAM needs a network with tapped(…), as those of pp_jax.models, which {kind} has not")
    params = jax.eval_shape(lambda key: network.init(key, np.shape(image)), jax.random.key(0))
    if last_grid(network, params, image) is None:
        raise ValueError(f"Grad-CAM needs a network with a convolution, which {kind} has not: give another network")


def last_grid(network: Tapped, params: Params, image: Any) -> tuple[int, tuple[int, ...]] | None:
    """Number and output shape (1, h, w, c) of the last layer call on a grid, or None; nothing is computed."""
    found: list[tuple[int, ...]] = []

    def tap(call: Any, output: jax.Array) -> jax.Array:
        found.append(np.shape(output) if call else ())
        return output

    jax.eval_shape(lambda params, image: network.tapped(params, image, tap), params, image)
    places = [number for number, shape in enumerate(found) if len(shape) == 4]
    return (places[-1], found[places[-1]]) if places else None


def attention(network: Tapped, params: Params, image: jax.Array, label: jax.Array) -> jax.Array:
    """Grad-CAM of one image as probabilities of its pixels.

    S = relu(Σ_k α_k A^k),  α_k = (1/hw) Σ_ij ∂z_label/∂A^k_ij,  A the output of the last layer on a grid

    resized to the image's size and divided by its sum; uniform where it vanishes.

    Args:
        network: one that `check_spatial` lets pass.
        params: its parameters.
        image: (H, W, C).
        label: the class.

    Returns:
        (H, W), at least 0, of sum 1.

    Source: Selvaraju et al., "Grad-CAM", ICCV 2017.
    """
    place = last_grid(network, params, image)
    assert place is not None
    number, shape = place

    def logit(change: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs: list[jax.Array] = []

        def tap(call: Any, output: jax.Array) -> jax.Array:
            outputs.append(output)
            return output + change if len(outputs) == number + 1 else output

        logits = network.tapped(params, image, tap)
        return logits[label], outputs[number]

    gradient, activation = jax.grad(logit, has_aux=True)(jnp.zeros(shape))
    weights = gradient.mean(axis=(1, 2), keepdims=True)
    heat = jax.nn.relu((weights * activation).sum(axis=-1))[0]
    # Resizing by a triangle leaves nothing negative.
    heat = jax.image.resize(heat, image.shape[:2], "linear")
    total = heat.sum()
    return jnp.where(total > 0, heat / jnp.where(total > 0, total, 1), 1 / heat.size)
