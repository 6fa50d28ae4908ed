"""The loop over epochs; resumable after each."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pp_jax.training.recipe import Recipe
from pp_jax.training.step import Trainable, check_pairs, make_step
from pp_jax.types import Params

# On an accelerator this many steps run per call, so that launching them costs nothing. XLA's CPU back end compiles loop
# bodies for one thread: there every step is a call of its own.
_STEPS_PER_CALL = 64


def steps_per_call() -> int:
    """How many steps of training a program makes at once on the default device."""
    return 1 if jax.default_backend() == "cpu" else _STEPS_PER_CALL


class State(NamedTuple):
    """All that training needs to go on: after epoch `epoch`, what follows depends on nothing else."""

    params: Params
    optimizer: Any
    epoch: int


def fit(
    key: jax.Array,
    network: Trainable,
    images: Any,
    targets: Any,
    recipe: Recipe,
    *,
    params: Params | None = None,
    state: State | None = None,
    on_epoch: Callable[[State, float], None] | None = None,
) -> Params:
    """Minimise the soft cross-entropy −(1/B) Σ_b Σ_k ỹ_bk log F(x_b; w)_k.

    Args:
        key: randomness of the initialisation, of the order of images and of their augmentation.
        network: one of `pp_jax.models`, or anything with `init` and `train`.
        images: (N, H, W, C), uint8 or floating point in [0, 1].
        targets: (N, K) soft labels, or (N,) class indices.
        recipe: optimiser, schedule, augmentation.
        params: a warm start: where epoch 1 begins; fresh parameters by default.
        state: where to go on after an interruption, as `on_epoch` was given it.
        on_epoch: called after each epoch with the state and the mean training loss (nats). The state's buffers are
            reused by the next epoch: copy what is to be kept.

    Returns:
        The trained parameters, after the last epoch.

    Raises:
        ValueError: if images and targets differ in number or there are none; for both `params` and `state`; for DP-SGD
            on a network that normalises over the batch.
    """
    check_pairs(images, targets)
    if params is not None and state is not None:
        raise ValueError("params and state must not both be given: a state has parameters of its own")
    batch = min(recipe.batch_size, len(images))
    steps = len(images) // batch
    init_key, order_key = jax.random.split(key)
    if state is None:
        state = start(init_key, network, np.shape(images)[1:], recipe.optimizer(steps), params=params)
    # The device keeps a copy of its own: the buffers of the caller's state are not to be donated.
    carry = jax.tree.map(jnp.copy, (state.params, state.optimizer))
    run = _on_cpu if jax.default_backend() == "cpu" else _on_accelerator
    step = _compiled(network, recipe, steps if recipe.decays else None, run)
    data = tuple(np.asarray(a) if run is _on_cpu else jnp.asarray(a) for a in (images, targets))
    for epoch in range(state.epoch, recipe.epochs):
        epoch_key = jax.random.fold_in(order_key, epoch)
        order = np.asarray(jax.random.permutation(epoch_key, len(images)))[: steps * batch].reshape(steps, batch)
        carry, loss = run(step, carry, data, order, epoch_key)
        if on_epoch is not None:
            on_epoch(State(carry[0], carry[1], epoch + 1), loss)
    return carry[0]


def start(
    key: jax.Array,
    network: Trainable,
    image_shape: tuple[int, ...],
    optimizer: optax.GradientTransformation,
    *,
    params: Params | None = None,
) -> State:
    """The state before the first epoch, from fresh parameters or from `params`."""
    height, width, channels = image_shape
    params = network.init(key, (height, width, channels)) if params is None else params
    return State(params, optimizer.init(params["params"]), 0)


def _on_cpu(step: Any, carry: Any, data: Any, order: np.ndarray, key: jax.Array) -> tuple[Any, float]:
    """An epoch of single steps; batches are gathered on the host, so that one program serves sets of every size."""
    images, targets = data
    losses = []
    for number, index in enumerate(order):
        carry, loss = step(carry, images[index], targets[index], key, number)
        losses.append(loss)
    return carry, float(np.mean(jax.device_get(losses)))


def _on_accelerator(step: Any, carry: Any, data: Any, order: np.ndarray, key: jax.Array) -> tuple[Any, float]:
    """An epoch of scans over a set that lies on the device."""
    losses = []
    for first in range(0, len(order), _STEPS_PER_CALL):
        carry, loss = step(carry, *data, order[first : first + _STEPS_PER_CALL], key, first)
        losses.append(loss)
    return carry, float(jnp.mean(jnp.concatenate(losses)))


@functools.lru_cache(maxsize=32)
def _compiled(network: Trainable, recipe: Recipe, steps: int | None, run: Any) -> Callable[..., Any]:
    """The jitted program of `run`; the carry is donated. One program for all cells alike."""
    step = make_step(
        network, recipe.optimizer(steps or 1), augment=recipe.augment, per_example=recipe.privacy is not None
    )

    def one(carry: Any, images: jax.Array, targets: jax.Array, key: jax.Array, number: Any) -> Any:
        # The order of the epoch was drawn from the key itself: a step's key is never that.
        return step(carry, images, targets, jax.random.fold_in(key, number))

    def many(carry: Any, images: jax.Array, targets: jax.Array, indices: jax.Array, key: jax.Array, first: Any) -> Any:
        def body(carry: Any, chosen: tuple[jax.Array, jax.Array]) -> Any:
            index, number = chosen
            return one(carry, images[index], targets[index], key, number)

        return jax.lax.scan(body, carry, (indices, first + jnp.arange(len(indices))))

    return jax.jit(one if run is _on_cpu else many, donate_argnums=0)
