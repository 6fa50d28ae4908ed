"""What a training is made of, as short digests: enough to tell that a folder holds another one."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from pp_jax.training.recipe import Recipe

_CHUNK = 1 << 24  # bytes of an array that are brought to the host at once
_PLACE = ("parent", "name")  # fields of Flax modules that say where they are in a tree, not what they compute
_OTHER = {
    "key": "another key",
    "network": "another network",
    "recipe": "another recipe",
    "loss": "another loss",
    "images": "other images",
    "targets": "other targets",
    "unlabelled": "other unlabelled images",
    "params": "another warm start",
}


def owner_of(
    identity: Mapping[str, Any],
    key: jax.Array,
    network: Any,
    images: Any,
    targets: Any,
    recipe: Recipe,
    *,
    loss: Any,
    unlabelled: Any,
    params: Any,
    like: Any,
) -> dict[str, Any]:
    """Whose checkpoints a folder holds: the caller's identity, and a digest of each thing that determines a training.

    Arrays count with all their values; functions, and classes that are no dataclasses, with their names alone. The
    number of epochs does not count: a training can go on.

    Args:
        identity: JSON values.
        key: as for `fit`, like `network`, `images`, `targets`, `recipe`, `loss`, `unlabelled` and `params`.
        like: shapes and types of parameters and optimiser state.

    Raises:
        ValueError: for an identity without a JSON form.
    """
    try:
        given = json.loads(json.dumps(dict(identity), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"identity must have a JSON form: {error}") from error
    weights, optimizer = (_shapes(part) for part in like)
    numbers = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    del numbers["epochs"]
    parts = {
        "key": key,
        "network": [network, weights],
        "recipe": [numbers, optimizer],
        "loss": loss,
        "images": images,
        "targets": targets,
        "unlabelled": unlabelled,
        "params": None if params is None else jax.tree.leaves(params),
    }
    return {"identity": given, "training": {name: _short(_told(part)) for name, part in parts.items()}}


def differences(one: Any, other: Any) -> list[str]:
    """What differs between two digests of `owner_of`, in words."""
    known = one if isinstance(one, dict) else {}
    return [words for name, words in _OTHER.items() if known.get(name) != other[name]]


def _shapes(tree: Any) -> list[Any]:
    """Name, shape and type of every leaf."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [[jax.tree_util.keystr(path), list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves]


def _short(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _told(value: Any) -> Any:
    """A value as JSON data; what has no content that can be told counts with its name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _array(value)
    if isinstance(value, Mapping):
        return {str(name): _told(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    if isinstance(value, functools.partial):
        return [_told(value.func), _told(value.args), _told(value.keywords)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (field.name for field in dataclasses.fields(value) if field.name not in _PLACE)
        return [_name(type(value)), {name: _told(getattr(value, name, None)) for name in fields}]
    return _name(value if hasattr(value, "__qualname__") else type(value))


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _array(values: Any) -> list[Any]:
    """Type, shape and SHA-256 of an array, in the type that JAX computes with, a part at a time."""
    if jax.dtypes.issubdtype(values.dtype, jax.dtypes.prng_key):
        values = jax.random.key_data(values)
    dtype = jax.dtypes.canonicalize_dtype(values.dtype)
    shape = np.shape(values)
    digest = hashlib.sha256()
    if shape:
        rows = max(1, _CHUNK * shape[0] // max(1, values.nbytes))
        for first in range(0, shape[0], rows):
            digest.update(np.ascontiguousarray(values[first : first + rows], dtype).tobytes())
    else:
        digest.update(np.asarray(values, dtype).tobytes())
    return [str(dtype), list(shape), digest.hexdigest()]
