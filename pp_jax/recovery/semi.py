"""Semi-supervised thieves: images nobody was asked about make up for answers that cannot be trusted."""

import functools
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pp_jax._validate import check_answers, check_images
from pp_jax.training import Recipe, Trainable, start
from pp_jax.types import Params


class SemiLoss(Hashable, Protocol):
    """A loss over a batch of queries with their answers and a batch of images without; hashable."""

    def __call__(
        self, network: Trainable, params: Params, images: jax.Array, targets: jax.Array, others: jax.Array, key: Any
    ) -> tuple[jax.Array, Params]:
        """The loss, and the parameters with the batch statistics of the queries."""


def fit_semi(
    key: jax.Array,
    network: Trainable,
    images: Any,
    targets: Any,
    others: Any,
    recipe: Recipe,
    *,
    loss: SemiLoss,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Params:
    """Train a thief on its transfer set and on images that it did not ask about.

    Each step takes the next batch of queries and a random batch, as large, of the other images.

    Args:
        key: randomness of the initialisation, of the order of images and of the loss.
        network: what is trained.
        images: the queries, (N, H, W, C), uint8 or floating point in [0, 1].
        targets: the answers or what was recovered from them, (N, K).
        others: images without answers, (U, H, W, C), of the same shape and type.
        recipe: optimiser and schedule; its augmentation and privacy are not used.
        loss: `Rotations()`, `MixMatch()` or another.
        on_epoch: called after each epoch with its number and the mean loss.

    Returns:
        The trained parameters.

    Raises:
        ValueError: for targets off the simplex or not as many as the images, images of different shapes or types, or a
            recipe with augmentation or privacy.
    """
    check_answers(targets, images)
    check_images(others)
    if np.shape(images)[1:] != np.shape(others)[1:] or jnp.result_type(images) != jnp.result_type(others):
        raise ValueError(f"both kinds of images must be alike, not {np.shape(images)} and {np.shape(others)}")
    if recipe.augment is not None or recipe.privacy is not None:
        raise ValueError("a semi-supervised fit takes a recipe without augment and privacy, not with")
    init_key, order_key = jax.random.split(key)
    batch = min(recipe.batch_size, len(images))
    steps = len(images) // batch
    carry = start(init_key, network, np.shape(images)[1:], recipe.optimizer(steps))[:2]
    step = _compiled(network, recipe, steps if recipe.decays else None, loss)
    images, targets, others = np.asarray(images), np.asarray(targets), np.asarray(others)
    for epoch in range(recipe.epochs):
        epoch_key, other_key = jax.random.split(jax.random.fold_in(order_key, epoch))
        order = np.asarray(jax.random.permutation(epoch_key, len(images)))[: steps * batch].reshape(steps, batch)
        beside = np.asarray(jax.random.randint(other_key, (steps, batch), 0, len(others)))
        losses = []
        for number, (rows, also) in enumerate(zip(order, beside, strict=True)):
            # The order was drawn from the key itself: a step's key is never that.
            carry, value = step(carry, images[rows], targets[rows], others[also], jax.random.fold_in(epoch_key, number))
            losses.append(value)
        if on_epoch is not None:
            on_epoch(epoch + 1, float(np.mean(jax.device_get(losses))))
    return carry[0]


def make_semi_step(
    network: Trainable, optimizer: optax.GradientTransformation, loss: SemiLoss
) -> Callable[..., tuple[tuple[Params, Any], jax.Array]]:
    """One pure step `(params, opt_state), images, targets, others, key -> (params, opt_state), loss`."""

    def step(
        carry: tuple[Params, Any], images: jax.Array, targets: jax.Array, others: jax.Array, key: jax.Array
    ) -> tuple[tuple[Params, Any], jax.Array]:
        variables, opt_state = carry

        def value(weights: Params) -> tuple[jax.Array, Params]:
            return loss(network, {**variables, "params": weights}, images, targets, others, key)

        (result, updated), gradient = jax.value_and_grad(value, has_aux=True)(variables["params"])
        change, opt_state = optimizer.update(gradient, opt_state, variables["params"])
        return ({**updated, "params": optax.apply_updates(variables["params"], change)}, opt_state), result

    return step


@functools.lru_cache(maxsize=32)
def _compiled(network: Trainable, recipe: Recipe, steps: int | None, loss: SemiLoss) -> Callable[..., Any]:
    """The jitted step."""
    return jax.jit(make_semi_step(network, recipe.optimizer(steps or 1), loss))
