"""One step of training as a pure function, to jit, scan or vmap."""

from collections.abc import Callable, Hashable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from pp_jax.training.recipe import Augment
from pp_jax.types import Params

Carry = tuple[Params, Any]


class Trainable(Hashable, Protocol):
    """A network that can be trained, as those of `pp_jax.models`; hashable."""

    def init(self, key: jax.Array, image_shape: tuple[int, int, int]) -> Params:
        """Fresh parameters for images (H, W, C)."""

    def train(self, params: Params, images: jax.Array) -> tuple[jax.Array, Params]:
        """Logits (B, K) of a batch in training mode, and the parameters with their batch statistics updated."""


def check_pairs(images: Any, targets: Any) -> None:
    """Refuse images without a target each, or none at all.

    Raises:
        ValueError: naming both numbers.
    """
    if len(images) != len(targets) or len(images) == 0:
        raise ValueError(f"images and targets must be as many, at least 1: {len(images)} and {len(targets)}")


def soft_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean of −Σ_k ỹ_k log softmax(z)_k over a batch; targets (B, K) soft or (B,) class indices."""
    if targets.ndim == 1:
        targets = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
    return jnp.mean(optax.softmax_cross_entropy(logits, targets))


def make_step(
    network: Trainable,
    optimizer: optax.GradientTransformation,
    *,
    augment: Augment | None = None,
    per_example: bool = False,
) -> Callable[..., Any]:
    """One pure step `(params, opt_state), images, targets, key=None -> (params, opt_state), loss`.

    Args:
        network: what is trained.
        optimizer: applied to the gradient of the mean loss.
        augment: applied to each image with a key of its own; the step then needs its `key`.
        per_example: hand the optimizer the gradient of each example, (B, …), in place of their mean.

    Raises:
        ValueError: at the first call, for per-example gradients of a network that normalises over the batch.
    """
    gradients = _per_example if per_example else _of_the_mean

    def step(
        carry: Carry, images: jax.Array, targets: jax.Array, key: jax.Array | None = None
    ) -> tuple[Carry, jax.Array]:
        variables, opt_state = carry
        if augment is not None:
            if key is None:
                raise ValueError("augmentation draws random numbers: the step needs a key")
            images = jax.vmap(augment)(jax.random.split(key, len(images)), images)
        value, updated, gradient = gradients(network, variables, images, targets)
        change, opt_state = optimizer.update(gradient, opt_state, variables["params"])
        return ({**updated, "params": optax.apply_updates(variables["params"], change)}, opt_state), value

    return step


def _of_the_mean(network: Trainable, variables: Params, images: jax.Array, targets: jax.Array) -> Any:
    """Mean loss, variables with updated statistics, and the gradient of the mean loss."""

    def loss(weights: Params) -> tuple[jax.Array, Params]:
        logits, updated = network.train({**variables, "params": weights}, images)
        return soft_cross_entropy(logits, targets), updated

    (value, updated), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return value, updated, gradient


def _per_example(network: Trainable, variables: Params, images: jax.Array, targets: jax.Array) -> Any:
    """Mean loss, the variables as they were, and the gradient of every example, (B, …)."""
    if set(variables) != {"params"}:
        found = ", ".join(sorted(variables))
        raise ValueError(f"per-example gradients need a network without batch statistics, not one with {found}")

    def loss(weights: Params, image: jax.Array, target: jax.Array) -> jax.Array:
        return soft_cross_entropy(network.train({"params": weights}, image[None])[0], target[None])

    values, gradients = jax.vmap(jax.value_and_grad(loss), (None, 0, 0))(variables["params"], images, targets)
    return jnp.mean(values), variables, gradients
