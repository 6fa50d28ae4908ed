"""Many networks trained as one program: the seeds, defenses and initialisations of a sweep as one axis."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from pp_jax.parallel import DATA, check_mesh
from pp_jax.training.fitting import steps_per_call
from pp_jax.training.recipe import Recipe
from pp_jax.training.step import Trainable, make_step
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
    params: Params | None = None,
    mesh: Mesh | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> Params:
    """Train T networks of one architecture at once, each as `fit` trains one.

    Network t becomes fit(keys[t], network, pool[rows[t]], targets[t], recipe), with the same random numbers; what
    differs is the rounding of a batched program, which training magnifies as it does that of another thread count.

    Args:
        keys: (T,), of the initialisation, the order of images and their augmentation.
        network: one of `pp_jax.models`, or anything with `init` and `train`; a network with an attribute `stacked` is
            replaced by it: the same function, in the form that is fast for many sets of parameters at once.
        sets: what is learned.
        recipe: optimiser, schedule, augmentation; one for all.
        params: a warm start for each, every leaf with a leading axis T; fresh parameters by default.
        mesh: devices, over whose axis "data" the networks are spread; T must be a multiple of it. One device by
            default.
        on_epoch: called after each epoch with its number.

    Returns:
        The trained parameters, every leaf with a leading axis T.

    Raises:
        ValueError: for numbers of keys, rows and targets that do not fit, a T that the mesh does not divide, or a mesh
            without the axis "data".
    """
    count, size = _check(keys, sets, mesh)
    network = getattr(network, "stacked", network)
    batch = min(recipe.batch_size, size)
    steps = size // batch
    program = _programs(network, recipe, steps if recipe.decays else None, np.shape(sets.pool)[1:], mesh)
    data = Sets(*map(jnp.asarray, sets))
    carry, order_keys = program.start(keys, params)
    per_call = steps_per_call()
    for epoch in range(recipe.epochs):
        epoch_keys, order = program.shuffle(order_keys, epoch, size)
        order = order[:, : steps * batch].reshape(count, steps, batch).swapaxes(0, 1)
        for first in range(0, steps, per_call):
            carry = program.steps(carry, data, order[first : first + per_call], epoch_keys, first)
        if on_epoch is not None:
            jax.block_until_ready(carry)
            on_epoch(epoch + 1)
    return carry[0]


def bytes_each(network: Trainable, pool: Any, classes: int, recipe: Recipe) -> int:
    """Memory that one of the networks takes while it is trained: what the compiler says of a step, without the pool."""
    network = getattr(network, "stacked", network)
    shape = np.shape(pool)[1:]
    program = _programs(network, recipe, 1 if recipe.decays else None, shape, None)
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
    shuffle: Callable[..., Any]
    steps: Any


@functools.lru_cache(maxsize=32)
def _programs(network: Trainable, recipe: Recipe, steps: int | None, shape: Any, mesh: Mesh | None) -> _Programs:
    """One set for all sweeps alike."""
    optimizer = recipe.optimizer(steps or 1)
    step = make_step(network, optimizer, augment=recipe.augment, per_example=recipe.privacy is not None)

    def start(key: jax.Array, params: Params | None) -> tuple[tuple[Params, optax.OptState], jax.Array]:
        init_key, order_key = jax.random.split(key)
        params = network.init(init_key, shape) if params is None else jax.tree.map(jnp.copy, params)
        return (params, optimizer.init(params["params"])), order_key

    def shuffle(key: jax.Array, epoch: Any, size: int) -> tuple[jax.Array, jax.Array]:
        epoch_key = jax.random.fold_in(key, epoch)
        return epoch_key, jax.random.permutation(epoch_key, size)

    def advance(carry: Any, data: Sets, order: jax.Array, keys: jax.Array, first: Any) -> Any:
        def one(carry: Any, rows: jax.Array, targets: jax.Array, index: jax.Array, key: jax.Array) -> Any:
            return step(carry, data.pool[rows[index]], targets[index], key)[0]

        def body(carry: Any, now: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
            index, number = now
            step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            return jax.vmap(one)(carry, data.rows, data.targets, index, step_keys), None

        return jax.lax.scan(body, carry, (order, first + jnp.arange(len(order))))[0]

    many, shared = PartitionSpec(DATA), PartitionSpec()
    if mesh is not None:
        data = Sets(shared, many, many)
        advance = jax.shard_map(
            advance,
            mesh=mesh,
            in_specs=(many, data, PartitionSpec(None, DATA), many, shared),
            out_specs=many,
            check_vma=False,
        )
    return _Programs(
        jax.jit(jax.vmap(start)),
        jax.jit(jax.vmap(shuffle, (0, None, None)), static_argnums=2),
        jax.jit(advance, donate_argnums=0),
    )


def _check(keys: jax.Array, sets: Sets, mesh: Mesh | None) -> tuple[int, int]:
    """How many networks there are, and images for each."""
    rows, targets = np.shape(sets.rows), np.shape(sets.targets)
    if len(rows) != 2 or 0 in rows or targets[:2] != rows or len(keys) != rows[0]:
        raise ValueError(
            f"keys, rows and targets must be (T,), (T, n) and (T, n, …) with T, n ≥ 1, not {np.shape(keys)}, {rows} "
            f"and {targets}"
        )
    check_mesh(mesh)
    if mesh is not None and rows[0] % mesh.shape[DATA]:
        raise ValueError(f"{rows[0]} networks cannot be spread evenly over {mesh.shape[DATA]} devices")
    return rows
