"""Several devices, several hosts: a mesh, what lies where on it, and the map over rows that `perturb` is made of.

The rows of a batch (queries) are spread over the axis "data"; parameters are copied to every device, or cut by a rule
over the axis "model". Nothing else changes: the same call, the same responses.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pp_jax.types import LogitsFn, Params

DATA, MODEL = "data", "model"

Rule = Callable[[Any, Any], PartitionSpec]
"""`rule(path, leaf)`: how a leaf at a `jax.tree_util` path is cut."""


def data_mesh(*, devices: Sequence[jax.Device] | None = None, model: int = 1) -> Mesh:
    """A mesh with the axes "data", for queries, and "model", for parameters too large for one device.

    Args:
        devices: the devices; all of them, on all hosts, by default. `jax.local_devices()` are those of this process.
        model: how many devices share one copy of the parameters.

    Returns:
        A mesh of shape (devices / model, model).

    Raises:
        ValueError: for a `model` below 1 or one that does not divide the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    if model < 1 or not devices or len(devices) % model:
        raise ValueError(f"model must be at least 1 and divide the number of devices, {len(devices)}, not {model}")
    grid = np.empty(len(devices), object)
    grid[:] = devices
    return Mesh(grid.reshape(-1, model), (DATA, MODEL))


def place(tree: Any, mesh: Mesh, *, rule: Rule | None = None) -> Any:
    """Lay a pytree (a defense, a black box, parameters) out on a mesh, once instead of at every call.

    Args:
        tree: any pytree; on several hosts, the same on each of them.
        mesh: the mesh.
        rule: `rule(path, leaf) -> PartitionSpec`. By default what lies on this mesh stays as it is, and the rest is
            copied to every device.

    Returns:
        The same pytree, its leaves arrays on the mesh.
    """

    def put(path: Any, leaf: Any) -> Any:
        if rule is None and isinstance(leaf, jax.Array) and getattr(leaf.sharding, "mesh", None) == mesh:
            return leaf
        return _put(leaf, NamedSharding(mesh, PartitionSpec() if rule is None else rule(path, leaf)))

    return jax.tree_util.tree_map_with_path(put, tree)


def over_model(mesh: Mesh, *, at_least: int = 2**20) -> Rule:
    """A rule that cuts big matrices and kernels along their last axis over the axis "model".

    Args:
        mesh: the mesh that the parameters will lie on.
        at_least: entries below which a leaf is copied rather than cut.

    Returns:
        A rule for `place`; a leaf whose last axis the devices do not divide is copied.

    Raises:
        ValueError: for a mesh without the axis "model".
    """
    parts = _axis(mesh, MODEL)

    def rule(path: Any, leaf: Any) -> PartitionSpec:
        del path
        shape = np.shape(leaf)
        if len(shape) < 2 or np.size(leaf) < at_least or shape[-1] % parts:
            return PartitionSpec()
        return PartitionSpec(*[None] * (len(shape) - 1), MODEL)

    return rule


@dataclasses.dataclass(frozen=True)
class Gathered:
    """A network whose parameters are cut over "model", its logits whole on every device that shares them.

    Without it the geometry after the network is cut as well: slower, and sums over classes are rounded otherwise.

    Attributes:
        logits_fn: the network, `logits_fn(params, image) -> (K,)`.

    Raises:
        ValueError: for a JAX older than 0.8, which cannot constrain part of a mesh.
    """

    logits_fn: LogitsFn

    def __post_init__(self) -> None:
        """Check the version of JAX."""
        if jax.__version_info__ < (0, 8):
            raise ValueError(f"Gathered needs JAX 0.8 or newer, not {jax.__version__}: pip install -U jax")

    def __call__(self, params: Params, image: jax.Array) -> jax.Array:
        """The logits of one image, (K,)."""
        logits = self.logits_fn(params, image)
        # Where no axis is left to the compiler, there is nothing that it could have cut.
        mesh = jax.sharding.get_abstract_mesh()
        if not mesh.auto_axes:
            return logits
        return jax.lax.with_sharding_constraint(logits, NamedSharding(mesh, PartitionSpec(None)))


def share(rows: int) -> slice:
    """The rows, out of so many, that are this process' share: in the order of processes, equal to one row."""
    count, index = jax.process_count(), jax.process_index()
    return slice(rows * index // count, rows * (index + 1) // count)


def from_hosts(mesh: Mesh, rows: Any) -> Any:
    """One global array out of the rows that every process has.

    Args:
        mesh: a mesh over the devices of all processes.
        rows: this process' rows, (b, …), or a pytree of such; b the same everywhere and a multiple of its devices.

    Returns:
        Arrays (processes · b, …), cut over the axis "data", rows in the order of processes.
    """
    sharding = NamedSharding(mesh, PartitionSpec(DATA))
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), rows)


def to_host(array: jax.Array) -> np.ndarray:
    """The rows of a global array that lie on the devices of this process, in order: what `from_hosts` was given."""
    shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def spread(mesh: Mesh, *arrays: Any) -> list[jax.Array]:
    """Lay the rows of arrays out over "data"; copied to every device where the devices do not divide their number."""
    parts = _axis(mesh, DATA)
    return [
        jax.device_put(a, NamedSharding(mesh, PartitionSpec() if len(a) % parts else PartitionSpec(DATA)))
        for a in arrays
    ]


def over_rows(function: Callable[..., Any], mesh: Mesh | None, shared: Any, *arrays: jax.Array) -> Any:
    """`function(shared, *arrays)`, on a mesh by every device for its own rows; traced.

    Args:
        function: it treats rows independently: `shared` and arrays of b rows in, a pytree of arrays of b rows out.
        mesh: the mesh; None for one device.
        shared: a pytree that every device needs; cut over "model" if it lies so.
        arrays: arrays (B, …); rows are added and cut off where the devices do not divide B.

    Returns:
        What `function` returns for all rows.

    Raises:
        ValueError: for a mesh without the axis "data".
    """
    if mesh is None:
        return function(shared, *arrays)
    rows, parts = len(arrays[0]), _axis(mesh, DATA)
    data = PartitionSpec(DATA)
    # Without the axis "model" in use every axis is the function's own, the simplest program there is.
    axes = {DATA} if mesh.size > parts else set(mesh.axis_names)
    mapped = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(PartitionSpec(), *[data] * len(arrays)),
        out_specs=data,
        axis_names=axes,
        check_vma=False,
    )
    results = mapped(shared, *[_padded(a, -rows % parts) for a in arrays])
    return jax.tree.map(lambda a: a[:rows], results)


def everywhere(mesh: Mesh | None, tree: Any) -> Any:
    """Arrays that every device, and so every host, can read; traced."""
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


def check_mesh(mesh: Mesh | None) -> None:
    """Refuse a mesh without the axis "data".

    Raises:
        ValueError: naming its axes.
    """
    if mesh is not None:
        _axis(mesh, DATA)


def _axis(mesh: Mesh, name: str) -> int:
    """The size of an axis that must be there."""
    if name not in mesh.shape:
        raise ValueError(f"the mesh must have an axis {name!r} (see parallel.data_mesh), not only {mesh.axis_names}")
    return int(mesh.shape[name])


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """`jax.device_put`; on several hosts every process brings the parts of its own devices."""
    if not sharding.mesh.is_multi_process:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf, jnp.result_type(leaf))
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _padded(array: jax.Array, missing: int) -> jax.Array:
    """The array with its last row repeated so many times."""
    return jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1), mode="edge") if missing else array
