"""Training on soft labels: the same few lines fit a victim to its labels and a thief to stolen answers."""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pp_jax.types import Params

# On an accelerator this many steps run per call, so that launching them costs nothing. XLA's CPU back end compiles loop
# bodies for one thread: there every step is a call of its own.
_STEPS_PER_CALL = 64


class Trainable(Hashable, Protocol):
    """A network that can be trained, as those of `pp_jax.models`; hashable."""

    def init(self, key: jax.Array, image_shape: tuple[int, int, int]) -> Params:
        """Fresh parameters for images (H, W, C)."""

    def train(self, params: Params, images: jax.Array) -> tuple[jax.Array, Params]:
        """Logits (B, K) of a batch in training mode, and the parameters with their batch statistics updated."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How long and how fast: SGD with momentum and a step-wise decay, as in the paper.

    Attributes:
        epochs: passes over the data, at least 1.
        batch_size: images per step; what is left over at the end of an epoch is drawn anew in the next.
        learning_rate: of the first epoch.
        momentum: of SGD.
        decay_every: epochs between decays of the learning rate.
        decay: its factor.
        weight_decay: L2 penalty, added to the gradient.

    Raises:
        ValueError: for a number out of range.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.5
    decay_every: int = 50
    decay: float = 0.1
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Check every number."""
        for name in ("epochs", "batch_size", "decay_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "momentum", "decay", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be at least 0 and finite, not {getattr(self, name)}")

    def optimizer(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """The optax transformation."""
        period = self.decay_every * steps_per_epoch
        schedule = optax.exponential_decay(self.learning_rate, period, self.decay, staircase=True)
        sgd = optax.sgd(schedule, momentum=self.momentum or None)
        return optax.chain(optax.add_decayed_weights(self.weight_decay), sgd) if self.weight_decay else sgd


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
    state: State | None = None,
    on_epoch: Callable[[State, float], None] | None = None,
) -> Params:
    """Minimise the soft cross-entropy −(1/B) Σ_b Σ_k ỹ_bk log F(x_b; w)_k.

    Args:
        key: randomness of the initialisation and of the order of images.
        network: one of `pp_jax.models`, or anything with `init` and `train`.
        images: (N, H, W, C), uint8 or floating point in [0, 1].
        targets: (N, K) soft labels, or (N,) class indices.
        recipe: optimiser and schedule.
        state: where to go on, as `on_epoch` was given it; a fresh start by default.
        on_epoch: called after each epoch with the state and the mean training loss (nats).

    Returns:
        The trained parameters, after the last epoch.

    Raises:
        ValueError: if images and targets differ in number or there are none.
    """
    if len(images) != len(targets) or len(images) == 0:
        raise ValueError(f"images and targets must be as many, at least 1: {len(images)} and {len(targets)}")
    batch = min(recipe.batch_size, len(images))
    steps = len(images) // batch
    optimizer = recipe.optimizer(steps)
    init_key, order_key = jax.random.split(key)
    state = state or start(init_key, network, np.shape(images)[1:], optimizer)
    # The device keeps a copy of its own: the buffers of the caller's state are not to be donated.
    carry = jax.tree.map(jnp.array, (state.params, state.optimizer))
    data = (jnp.asarray(images), jnp.asarray(targets))
    run = _compiled(network, recipe, steps)
    for epoch in range(state.epoch, recipe.epochs):
        order = jax.random.permutation(jax.random.fold_in(order_key, epoch), len(images))
        losses = []
        for chunk in _chunks(order[: steps * batch].reshape(steps, batch)):
            carry, loss = run(carry, *data, chunk)
            losses.append(loss)
        if on_epoch is not None:
            on_epoch(State(carry[0], carry[1], epoch + 1), float(jnp.mean(jnp.concatenate(losses))))
    return carry[0]


def start(
    key: jax.Array, network: Trainable, image_shape: tuple[int, ...], optimizer: optax.GradientTransformation
) -> State:
    """The state before the first epoch."""
    height, width, channels = image_shape
    params = network.init(key, (height, width, channels))
    return State(params, optimizer.init(params["params"]), 0)


def soft_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean of −Σ_k ỹ_k log softmax(z)_k over a batch; targets (B, K) soft or (B,) class indices."""
    if targets.ndim == 1:
        targets = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
    return jnp.mean(optax.softmax_cross_entropy(logits, targets))


def make_step(network: Trainable, optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """One pure step `(params, opt_state), images, targets -> (params, opt_state), loss`, to jit, scan or vmap."""

    def step(carry: tuple[Params, Any], images: jax.Array, targets: jax.Array) -> tuple[tuple[Params, Any], jax.Array]:
        variables, opt_state = carry

        def loss(weights: Params) -> tuple[jax.Array, Params]:
            logits, updated = network.train({**variables, "params": weights}, images)
            return soft_cross_entropy(logits, targets), updated

        (value, updated), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        change, opt_state = optimizer.update(gradient, opt_state, variables["params"])
        return ({**updated, "params": optax.apply_updates(variables["params"], change)}, opt_state), value

    return step


@functools.lru_cache(maxsize=32)
def _compiled(network: Trainable, recipe: Recipe, steps: int) -> Callable[..., Any]:
    """The jitted steps over a chunk of batch indices, (S, B); the carry is donated. One program for all cells alike."""
    step = make_step(network, recipe.optimizer(steps))

    def run(carry: Any, images: jax.Array, targets: jax.Array, indices: jax.Array) -> Any:
        def one(carry: Any, index: jax.Array) -> Any:
            return step(carry, images[index], targets[index])

        if len(indices) == 1:
            carry, loss = one(carry, indices[0])
            return carry, loss[None]
        return jax.lax.scan(one, carry, indices)

    return jax.jit(run, donate_argnums=0)


def _chunks(batches: jax.Array) -> list[jax.Array]:
    """Split the batches of an epoch into what one call runs."""
    size = 1 if jax.default_backend() == "cpu" else _STEPS_PER_CALL
    return [batches[i : i + size] for i in range(0, len(batches), size)]
