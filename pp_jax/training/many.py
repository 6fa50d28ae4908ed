"""Many networks trained as one program: the seeds, defenses and initialisations of a sweep as one axis."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from pp_jax._checks import as_inputs, as_labels, check_random_key
from pp_jax.parallel import DATA, check_mesh
from pp_jax.training.contracts import Loss, Trainable, check_trainable
from pp_jax.training.fitting import Draws, as_targets_of, default_steps_per_call, draw, outputs_of, scan, start
from pp_jax.training.losses import SUPERVISED
from pp_jax.training.recipe import Recipe
from pp_jax.training.step import Batch, Carry, recipe_step
from pp_jax.types import Params


class Sets(NamedTuple):
    """What every network is trained on: rows of one pool of images that all share.

    Attributes:
        pool: (N, H, W, C), uint8 or floating point in [0, 1].
        rows: (T, n), the images of network t are pool[rows[t]].
        targets: (T, n, K) soft labels, or (T, n) class indices.
    """

    pool: Any
    rows: Any
    targets: Any


def fit_many(
    keys: jax.Array,
    network: Trainable,
    sets: Sets,
    recipe: Recipe,
    *,
    loss: Loss = SUPERVISED,
    params: Params | None = None,
    mesh: Mesh | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> Params:
    """Train T networks of one architecture at once, each as `fit` trains one.

    Network t becomes fit(keys[t], network, pool[rows[t]], targets[t], recipe, loss=loss), with the same random numbers;
    what differs is the rounding of a batched program, which training magnifies as it does that of another thread count.

    Args:
        keys: (T,), of the initialisation, the order of images, their augmentation and the loss.
        network: one of `pp_jax.models`, or another `Trainable`; its form `vmapped` is trained.
        sets: what is learned.
        recipe: optimiser, schedule, augmentation; one for all.
        loss: what is minimised, without unlabelled images; hashable.
        params: a warm start for each, every leaf with a leading axis T; fresh parameters by default.
        mesh: devices, over whose axis "data" the networks are spread; T must be a multiple of it. One device by
            default.
        on_epoch: called after each epoch with its number.

    Returns:
        The trained parameters, every leaf with a leading axis T.

    Raises:
        ValueError: for numbers of keys, rows and targets that do not fit, rows that are not in the pool, pixels,
            labels or soft labels that `fit` refuses, a network that is not `Trainable`, a loss that needs unlabelled
            images, a T that the mesh does not divide, or a mesh without the axis "data".
    """
    sets, size = _checked(keys, sets, mesh)
    check_trainable(network)
    batch = min(recipe.batch_size, size)
    steps = size // batch
    program = _programs(network, recipe, loss, steps if recipe.decays else None, np.shape(sets.pool)[1:], mesh)
    carry, order_keys = program.start(keys, params)
    one = jax.eval_shape(lambda params: jax.tree.map(lambda leaf: leaf[0], params), carry[0])
    targets = as_targets_of(loss, outputs_of(network.vmapped, one, sets.pool), sets.targets, np.shape(sets.rows))
    data = Sets(*map(jnp.asarray, sets._replace(targets=targets)))
    at_once = default_steps_per_call()
    for epoch in range(recipe.epochs):
        epoch_keys, order, _ = program.draw(order_keys, epoch, size, batch)
        for first in range(0, steps, at_once):
            carry = program.steps(carry, data, order[:, first : first + at_once], epoch_keys, first)
        if on_epoch is not None:
            jax.block_until_ready(carry)
            on_epoch(epoch + 1)
    return carry[0]


def bytes_each(network: Trainable, pool: Any, classes: int, recipe: Recipe, *, loss: Loss = SUPERVISED) -> int:
    """Memory that one of the networks takes while it is trained: what the compiler says of a step, without the pool.

    Args:
        network: as for `fit_many`, like `recipe` and `loss`.
        pool: (N, H, W, C), of which only shape and type are looked at.
        classes: K.

    Returns:
        Bytes.

    Raises:
        ValueError: for a network that is not `Trainable`.
    """
    check_trainable(network)
    shape = np.shape(pool)[1:]
    program = _programs(network, recipe, loss, 1 if recipe.decays else None, shape, None)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    carry, order_keys = jax.eval_shape(program.start, keys, None)
    batch = recipe.batch_size
    row = jax.ShapeDtypeStruct((1, batch), np.int32)
    targets = jax.ShapeDtypeStruct((1, batch, classes), np.float32)
    images = jax.ShapeDtypeStruct((batch, *shape), jnp.result_type(pool))
    order = jax.ShapeDtypeStruct((1, 1, batch), np.int32)
    compiled = program.steps.lower(carry, Sets(images, row, targets), order, order_keys, 0).compile()
    found = compiled.memory_analysis()
    return int(found.temp_size_in_bytes + found.output_size_in_bytes)


class _Programs(NamedTuple):
    """The compiled parts of training, for any number of networks."""

    start: Callable[..., Any]
    draw: Callable[..., Any]
    steps: Any


@functools.lru_cache(maxsize=32)
def _programs(
    network: Trainable, recipe: Recipe, loss: Loss, steps: int | None, shape: Any, mesh: Mesh | None
) -> _Programs:
    """One set for all sweeps alike."""
    network = network.vmapped
    step = recipe_step(network, recipe, loss, steps or 1)

    def begin(key: jax.Array, params: Params | None) -> tuple[Carry, jax.Array]:
        init_key, order_key = jax.random.split(key)
        params = None if params is None else jax.tree.map(jnp.copy, params)
        return start(init_key, network, shape, recipe.optimizer(steps or 1), params=params).carry, order_key

    def drawn(key: jax.Array, epoch: Any, size: int, batch: int) -> Draws:
        return draw(key, epoch, size=size, batch=batch, unlabelled=None)

    def advance(carry: Any, data: Sets, order: jax.Array, keys: jax.Array, first: Any) -> Any:
        def one(carry: Carry, rows: jax.Array, targets: jax.Array, order: jax.Array, key: jax.Array) -> Carry:
            def batch_of(index: jax.Array, others: None) -> Batch:
                return Batch(data.pool[rows[index]], targets[index], others)

            return scan(step, carry, batch_of, Draws(key, order, None), first)[0]

        return jax.vmap(one)(carry, data.rows, data.targets, order, keys)

    many, shared = PartitionSpec(DATA), PartitionSpec()
    if mesh is not None:
        specs = (many, Sets(shared, many, many), many, many, shared)
        advance = jax.shard_map(advance, mesh=mesh, in_specs=specs, out_specs=many, check_vma=False)
    return _Programs(
        jax.jit(jax.vmap(begin)),
        jax.jit(jax.vmap(drawn, (0, None, None, None)), static_argnums=(2, 3)),
        jax.jit(advance, donate_argnums=0),
    )


def _checked(keys: jax.Array, sets: Sets, mesh: Mesh | None) -> tuple[Sets, int]:
    """The sets as arrays, and how many images there are for each network."""
    rows, targets = np.shape(sets.rows), np.shape(sets.targets)
    if len(rows) != 2 or 0 in rows or targets[:2] != rows or np.shape(keys)[:1] != rows[:1]:
        raise ValueError(
            f"keys, rows and targets must be (T,), (T, n) and (T, n, …) with T, n ≥ 1, not {np.shape(keys)}, {rows} "
            f"and {targets}"
        )
    check_random_key(keys, name="keys", count=rows[0])
    pool = as_inputs(sets.pool, "pool")
    sets = sets._replace(pool=pool, rows=as_labels(sets.rows, shape=rows, classes=len(pool), name="rows"))
    check_mesh(mesh)
    if mesh is not None and rows[0] % mesh.shape[DATA]:
        raise ValueError(f"{rows[0]} networks cannot be spread evenly over {mesh.shape[DATA]} devices")
    return sets, rows[1]
