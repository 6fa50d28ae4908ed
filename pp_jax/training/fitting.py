"""The loop over epochs; resumable after each."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pp_jax._checks import as_array, as_inputs, as_pixels, as_targets, check_count, check_finite, check_random_key
from pp_jax.training.contracts import ClassLoss, Loss, Trainable
from pp_jax.training.losses import SUPERVISED, SoftCrossEntropy
from pp_jax.training.recipe import Recipe
from pp_jax.training.step import Batch, Carry, check_pairs, recipe_step
from pp_jax.types import Params

# On an accelerator this many steps run per call, so that launching them costs nothing. XLA's CPU back end compiles loop
# bodies for one thread: there every step is a call of its own.
_STEPS_PER_CALL = 64


def default_steps_per_call() -> int:
    """How many steps of training a program makes at once on the default device."""
    return 1 if jax.default_backend() == "cpu" else _STEPS_PER_CALL


class State(NamedTuple):
    """All that training needs to go on: after epoch `epoch`, what follows depends on nothing else."""

    params: Params
    optimizer: Any
    epoch: int

    @property
    def carry(self) -> Carry:
        """What a step takes and returns: parameters and the state of the optimiser."""
        return self.params, self.optimizer


class Draws(NamedTuple):
    """What an epoch of S steps draws.

    Attributes:
        key: randomness of the steps.
        rows: images with targets of each step, (S, B).
        others: unlabelled images of each step, (S, B), or None.
    """

    key: jax.Array
    rows: Any
    others: Any


def fit(
    key: jax.Array,
    network: Trainable,
    images: Any,
    targets: Any,
    recipe: Recipe,
    *,
    loss: Loss = SUPERVISED,
    unlabelled: Any = None,
    params: Params | None = None,
    state: State | None = None,
    on_epoch: Callable[[State, float], None] | None = None,
    steps_per_call: int | None = None,
) -> Params:
    """Minimise a loss, by default the soft cross-entropy −(1/B) Σ_b Σ_k ỹ_bk log F(x_b; w)_k.

    Each step takes the next batch of a random order of the images, and where there are unlabelled images a random
    batch, as large, of those. `Best`, called by `on_epoch`, chooses an epoch by held-out targets.

    Args:
        key: randomness of the initialisation, of the order of images, of their augmentation and of the loss.
        network: one of `pp_jax.models`, or another `Trainable`.
        images: (N, H, W, C), uint8 or floating point in [0, 1]; arrays (N, …) of what the network and the loss take.
        targets: (N, K) soft labels that sum to one, or class indices 0 … K − 1, (N,) or a column (N, 1).
        recipe: optimiser, schedule, augmentation.
        loss: what is minimised; hashable.
        unlabelled: images without targets for the loss, (U, H, W, C), of the same shape and type; no recipe with
            augmentation or privacy takes them.
        params: a warm start: where epoch 1 begins; fresh parameters by default.
        state: where to go on after an interruption, as `on_epoch` was given it.
        on_epoch: called after each epoch with the state and the mean training loss (nats). The state's buffers are
            reused by the next epoch: copy what is to be kept.
        steps_per_call: steps in one program, at least 1; by default 1 on a CPU, where convolutions are slow in a loop,
            and 64 on an accelerator.

    Returns:
        The trained parameters, after the last epoch.

    Raises:
        ValueError: for pixels out of range; if images and targets differ in number or there are none; for labels that
            are not 0 … K − 1, soft labels of another K than the network's or off the simplex; for unlabelled images
            that are unlike the others or none, or given with a recipe with augmentation or privacy; for a loss that
            needs some and has none; for both `params` and `state`; for `steps_per_call` below 1; for DP-SGD on a
            network that normalises over the batch; for a seed in place of a key.
    """
    check_random_key(key)
    images, unlabelled = as_data(images, targets, unlabelled, recipe)
    if params is not None and state is not None:
        raise ValueError("params and state must not both be given: a state has parameters of its own")
    batch = min(recipe.batch_size, len(images))
    steps = len(images) // batch
    init_key, order_key = jax.random.split(key)
    if state is None:
        state = start(init_key, network, np.shape(images)[1:], recipe.optimizer(steps), params=params)
    targets = as_targets_of(loss, outputs_of(network, state.params, images), targets, np.shape(images)[:1])
    # The device keeps a copy of its own: the buffers of the caller's state are not to be donated.
    carry = jax.tree.map(jnp.copy, state.carry)
    at_once = default_steps_per_call() if steps_per_call is None else steps_per_call
    check_count("steps_per_call", at_once, low=1)
    program = _compiled(network, recipe, loss, steps if recipe.decays else None, at_once == 1)
    convert = np.asarray if at_once == 1 else jnp.asarray
    data = Batch(*(None if array is None else convert(array) for array in (images, targets, unlabelled)))
    others = None if unlabelled is None else len(unlabelled)
    for epoch in range(state.epoch, recipe.epochs):
        draws = _drawn(order_key, epoch, size=len(images), batch=batch, unlabelled=others)
        if at_once == 1:
            carry, value = _one_by_one(program, carry, data, draws)
        else:
            carry, value = _several_at_once(program, carry, data, draws, at_once)
        if on_epoch is not None:
            on_epoch(State(*carry, epoch + 1), value)
    return carry[0]


def start(
    key: jax.Array,
    network: Trainable,
    image_shape: tuple[int, ...],
    optimizer: optax.GradientTransformation,
    *,
    params: Params | None = None,
) -> State:
    """The state before the first epoch, from fresh parameters or from `params`.

    Args:
        key: randomness of the initialisation.
        network: what is trained.
        image_shape: (H, W, C).
        optimizer: of the training.
        params: a warm start; fresh parameters by default.

    Raises:
        ValueError: for a seed in place of a key, where there are no `params`.
    """
    if params is None:
        check_random_key(key)
    params = network.init(key, tuple(image_shape)) if params is None else params
    return State(params, optimizer.init(params["params"]), 0)


def as_data(images: Any, targets: Any, unlabelled: Any, recipe: Recipe) -> tuple[Any, Any]:
    """Images and unlabelled images as arrays that `fit` can learn from; targets are counted alone.

    Raises:
        ValueError: naming numbers, shapes, types or a range.
    """
    check_pairs(images, targets)
    images = as_inputs(images)
    if unlabelled is None:
        return images, None
    unlabelled = as_pixels(unlabelled, "unlabelled")
    if np.shape(images)[1:] != np.shape(unlabelled)[1:] or jnp.result_type(images) != jnp.result_type(unlabelled):
        raise ValueError(f"both kinds of images must be alike, not {np.shape(images)} and {np.shape(unlabelled)}")
    if recipe.augment is not None or recipe.privacy is not None:
        raise ValueError("a fit with unlabelled images takes a recipe without augment and privacy, not with")
    return images, unlabelled


def as_targets_of(loss: Loss, outputs: int, targets: Any, shape: tuple[int, ...]) -> Any:
    """The targets of images as an array that a loss can learn from, for a network with so many outputs.

    Raises:
        ValueError: for labels or soft labels that do not fit; of a loss that states no classes, for other than finite.
    """
    if isinstance(loss, ClassLoss):
        normalised = not isinstance(loss, SoftCrossEntropy) or loss.normalised
        return as_targets(targets, shape=shape, classes=loss.classes(outputs), normalised=normalised)
    targets = as_array(targets, "targets")
    check_finite(targets, "targets")
    return targets


def outputs_of(network: Trainable, params: Params, images: Any) -> int:
    """How many outputs a network has for such images; nothing is computed, and a network is traced once."""
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda tree: tree, params))
    return _outputs(network, tuple(leaves), structure, np.shape(images)[1:], jnp.result_type(images))


@functools.lru_cache(maxsize=256)
def _outputs(network: Trainable, leaves: tuple[Any, ...], structure: Any, shape: tuple[int, ...], dtype: Any) -> int:
    """`outputs_of`, remembered."""
    batch = jax.ShapeDtypeStruct((1, *shape), dtype)
    logits, _ = jax.eval_shape(network.train, jax.tree.unflatten(structure, leaves), batch)
    return int(logits.shape[-1])


def draw(key: jax.Array, epoch: Any, *, size: int, batch: int, unlabelled: int | None) -> Draws:
    """What epoch number `epoch` draws from `size` images with targets and so many unlabelled ones."""
    steps = size // batch
    epoch_key, others = jax.random.fold_in(key, epoch), None
    if unlabelled is not None:
        epoch_key, other_key = jax.random.split(epoch_key)
        others = jax.random.randint(other_key, (steps, batch), 0, unlabelled)
    order = jax.random.permutation(epoch_key, size)
    return Draws(epoch_key, order[: steps * batch].reshape(steps, batch), others)


def scan(step: Callable[..., Any], carry: Carry, batch_of: Callable[..., Batch], draws: Draws, first: Any) -> Any:
    """Some steps of an epoch, from number `first` on, as one loop; `batch_of(rows, others)` gathers a batch."""

    def body(carry: Carry, now: Any) -> tuple[Carry, jax.Array]:
        rows, others, number = now
        # The order of the epoch was drawn from the key itself: a step's key is never that.
        return step(carry, batch_of(rows, others), jax.random.fold_in(draws.key, number))

    return jax.lax.scan(body, carry, (draws.rows, draws.others, first + jnp.arange(len(draws.rows))))


_drawn = jax.jit(draw, static_argnames=("size", "batch", "unlabelled"))


def _gathered(data: Batch, rows: Any, others: Any) -> Batch:
    """A batch of all data."""
    unlabelled = None if others is None else data.unlabelled[others]
    return Batch(data.images[rows], data.targets[rows], unlabelled)


def _one_by_one(program: Any, carry: Carry, data: Batch, draws: Draws) -> tuple[Carry, float]:
    """An epoch of single steps; batches are gathered on the host, so that one program serves sets of every size."""
    rows, others = np.asarray(draws.rows), None if draws.others is None else np.asarray(draws.others)
    losses = []
    for number in range(len(rows)):
        batch = _gathered(data, rows[number], None if others is None else others[number])
        carry, loss = program(carry, batch, draws.key, number)
        losses.append(loss)
    return carry, float(np.mean(jax.device_get(losses)))


def _several_at_once(program: Any, carry: Carry, data: Batch, draws: Draws, at_once: int) -> tuple[Carry, float]:
    """An epoch of scans over a set that lies on the device."""
    losses = []
    for first in range(0, len(draws.rows), at_once):
        some = slice(first, first + at_once)
        others = None if draws.others is None else draws.others[some]
        carry, loss = program(carry, data, Draws(draws.key, draws.rows[some], others), first)
        losses.append(loss)
    return carry, float(jnp.mean(jnp.concatenate(losses)))


@functools.lru_cache(maxsize=32)
def _compiled(network: Trainable, recipe: Recipe, loss: Loss, steps: int | None, single: bool) -> Callable[..., Any]:
    """The jitted program, of a single step or of a scan; the carry is donated. One program for all runs alike."""
    step = recipe_step(network, recipe, loss, steps or 1)

    def one(carry: Carry, batch: Batch, key: jax.Array, number: Any) -> Any:
        return step(carry, batch, jax.random.fold_in(key, number))

    def several(carry: Carry, data: Batch, draws: Draws, first: Any) -> Any:
        return scan(step, carry, functools.partial(_gathered, data), draws, first)

    return jax.jit(one if single else several, donate_argnums=0)
