"""One step of training as a pure function, to jit, scan or vmap."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pp_jax.training.augmentation import Augmentation, augmented
from pp_jax.training.contracts import Loss, Trainable
from pp_jax.training.losses import SUPERVISED
from pp_jax.training.recipe import Recipe
from pp_jax.types import Params

Carry = tuple[Params, Any]
"""Parameters and the state of the optimiser."""


class Batch(NamedTuple):
    """Images (B, H, W, C), their targets (B, K) or (B,), and as many unlabelled images or None."""

    images: Any
    targets: Any
    unlabelled: Any = None


def check_pairs(images: Any, targets: Any) -> None:
    """Refuse images without a target each, or none at all.

    Raises:
        ValueError: naming both numbers.
    """
    counts = [_count(rows) for rows in (images, targets)]
    if counts[0] != counts[1] or not counts[0]:
        raise ValueError(f"images and targets must be as many, at least 1: {counts[0]} and {counts[1]}")


def _count(rows: Any) -> int | None:
    """How many rows there are; None of what has none."""
    try:
        return len(rows)
    except TypeError:
        return None


def make_step(
    network: Trainable,
    optimizer: optax.GradientTransformation,
    *,
    loss: Loss = SUPERVISED,
    augment: Augmentation | None = None,
    per_example: bool = False,
) -> Callable[..., Any]:
    """One pure step `(params, opt_state), images, targets, key=None, unlabelled=None -> (params, opt_state), loss`.

    Args:
        network: what is trained.
        optimizer: applied to the gradient of the loss.
        loss: what is minimised; it is handed the step's key.
        augment: applied to each image with a key of its own; the step then needs its `key`.
        per_example: hand the optimizer the gradient of each example, (B, …), in place of their mean.

    Returns:
        The step, a function of arrays.

    Raises:
        ValueError: at the first call, for per-example gradients of a network that normalises over the batch.
    """
    gradients = _per_example if per_example else _of_the_batch

    def step(
        carry: Carry,
        images: jax.Array,
        targets: jax.Array,
        key: jax.Array | None = None,
        unlabelled: jax.Array | None = None,
    ) -> tuple[Carry, jax.Array]:
        variables, opt_state = carry
        if augment is not None:
            if key is None:
                raise ValueError("augmentation draws random numbers: the step needs a key")
            images = augmented(key, images, augment)
            # Image i had the i-th of `split(key)`, which `fold_in(key, i)` may be.
            key = jax.random.fold_in(key, len(images))
        batch = Batch(images, targets, unlabelled)
        value, updated, gradient = gradients(loss, network, variables, batch, key)
        change, opt_state = optimizer.update(gradient, opt_state, variables["params"])
        return ({**updated, "params": optax.apply_updates(variables["params"], change)}, opt_state), value

    return step


def recipe_step(network: Trainable, recipe: Recipe, loss: Loss, steps_per_epoch: int) -> Callable[..., Any]:
    """The step `carry, batch, key -> carry, loss` of a recipe."""
    optimizer = recipe.optimizer(steps_per_epoch)
    step = make_step(network, optimizer, loss=loss, augment=recipe.augment, per_example=recipe.privacy is not None)
    return lambda carry, batch, key: step(carry, batch.images, batch.targets, key, batch.unlabelled)


def _of_the_batch(loss: Loss, network: Trainable, variables: Params, batch: Batch, key: Any) -> Any:
    """Loss of a batch, variables with updated statistics, and the gradient of the loss."""

    def value(weights: Params) -> tuple[jax.Array, Params]:
        return loss(network, {**variables, "params": weights}, *batch, key)

    (result, updated), gradient = jax.value_and_grad(value, has_aux=True)(variables["params"])
    return result, updated, gradient


def _per_example(loss: Loss, network: Trainable, variables: Params, batch: Batch, key: Any) -> Any:
    """Mean loss, the variables as they were, and the gradient of every example, (B, …)."""
    if set(variables) != {"params"}:
        found = ", ".join(sorted(variables))
        raise ValueError(f"per-example gradients need a network without batch statistics, not one with {found}")
    if batch.unlabelled is not None:
        raise ValueError("per-example gradients are those of images with targets: unlabelled must be None")

    def value(weights: Params, image: jax.Array, target: jax.Array, key: Any) -> jax.Array:
        return loss(network, {"params": weights}, image[None], target[None], None, key)[0]

    keys = None if key is None else jax.random.split(key, len(batch.images))
    each = jax.vmap(jax.value_and_grad(value), (None, 0, 0, 0))
    values, gradients = each(variables["params"], batch.images, batch.targets, keys)
    return jnp.mean(values), variables, gradients
