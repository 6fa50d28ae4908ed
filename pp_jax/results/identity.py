"""What a value is, as plain data: the same for values of equal content, whoever made them and in whichever process."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from pp_jax.results.records import canonical

_OWN = "pp_jax"
# Fields of Flax modules that say where they hang in a tree, not what they compute.
_PLACE = {"parent", "name"}


def describe(value: Any, *, where: str = "value") -> Any:
    """A value as JSON data: dataclasses by class and fields, functions by name, arrays by the SHA-256 of their bytes.

    What does not come from this package counts with its source text, so that an edited class is another one.

    Args:
        value: numbers, texts, mappings, sequences, arrays, random keys, dataclasses, named tuples, functions, classes,
            bound methods and `functools.partial` of these.
        where: how errors call it.

    Returns:
        Nested dicts, lists, texts, numbers, booleans and None.

    Raises:
        ValueError: for a value whose content cannot be told, such as a lambda's closure or an open file.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | jax.Array):
        return _array(value)
    if isinstance(value, Mapping):
        return {str(name): describe(item, where=f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, functools.partial):
        parts = {"partial": value.func, "args": value.args, "keywords": value.keywords}
        return {name: describe(item, where=f"{where}.{name}") for name, item in parts.items()}
    if isinstance(value, type) or inspect.isfunction(value) or inspect.isbuiltin(value):
        return _named(value, where)
    if inspect.ismethod(value):
        return {"method": value.__func__.__qualname__, "of": describe(value.__self__, where=where)}
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
        kept = {name: item for name, item in fields.items() if name not in _PLACE}
        inner = {name: describe(item, where=f"{where}.{name}") for name, item in kept.items()}
        return {"type": _named(type(value), where), **inner}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        inner = {name: describe(item, where=f"{where}.{name}") for name, item in zip(value._fields, value, strict=True)}
        return {"type": _named(type(value), where), **inner}
    if isinstance(value, list | tuple):
        return [describe(item, where=f"{where}[{index}]") for index, item in enumerate(value)]
    raise ValueError(
        f"{where} is {value!r} of type {type(value).__name__}: its content cannot be told, so its results could not be "
        "found again; make it a frozen dataclass of numbers, texts, arrays and named functions"
    )


def digest(value: Any, *, where: str = "value") -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a value's description."""
    return canonical.digest(describe(value, where=where))[:16]


def tree_digest(tree: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a pytree's arrays and its structure."""
    leaves, structure = jax.tree.flatten(tree)
    return canonical.digest([str(structure), [describe(leaf) for leaf in leaves]])[:16]


def _array(value: Any) -> Any:
    """A scalar as a number, another array as shape, type and digest."""
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return {"key": np.asarray(jax.random.key_data(value)).tolist()}
    array = np.ascontiguousarray(np.asarray(value))
    if array.ndim == 0:
        return array.item()
    text = f"{array.dtype.str}{array.shape}".encode()
    return "sha256:" + hashlib.sha256(text + array.tobytes()).hexdigest()[:16]


def _named(value: Any, where: str) -> Any:
    """The full name of a class or function; of a foreign one with the digest of its source."""
    name = f"{value.__module__}.{value.__qualname__}"
    if "<lambda>" in name or "<locals>" in name:
        raise ValueError(f"{where} is {name}: define it by name in a module, so that its results can be found again")
    if value.__module__.partition(".")[0] in (_OWN, "jax", "flax", "optax", "builtins"):
        return name
    return {"name": name, "source": _source(value)}


def _source(value: Any) -> str | None:
    """Digest of the source text, None where there is none."""
    target = value if isinstance(value, type | types.FunctionType) else type(value)
    try:
        return hashlib.sha256(inspect.getsource(target).encode()).hexdigest()[:16]
    except (OSError, TypeError):
        return None
