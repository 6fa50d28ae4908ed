"""Arrays as they come from users: what is a list becomes an array, and values are looked at where they can be seen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def as_array(values: Any, name: str, *, lazy: bool = False) -> Any:
    """Arrays as they are; nested lists of numbers, and what else NumPy reads, as an array in JAX's precision.

    Args:
        values: what a user gave.
        name: how an error calls it.
        lazy: whether what is read a part at a time, such as an HDF5 data set, stays what it is.

    Raises:
        ValueError: for text, objects, or lists whose rows differ in length.
    """
    if values is None:
        raise ValueError(f"{name} must be an array of numbers, not None")
    array = values
    if not isinstance(values, np.ndarray | jax.Array) and not (lazy and _is_lazy(values)):
        try:
            array = np.asarray(values)
        except (ValueError, TypeError, RuntimeError) as error:
            reason, kind = str(error).splitlines()[0], type(values).__name__
            raise ValueError(f"{name} must be one array of numbers, which {kind} is not: {reason}") from error
        if is_number(array.dtype):
            array = array.astype(jnp.result_type(array))
    if not is_number(array.dtype):
        raise ValueError(f"{name} must be numbers, not {array.dtype}; write np.asarray(rows, np.float32) of numbers")
    return array


def is_number(dtype: Any) -> bool:
    """Whether a dtype is boolean, whole or floating point; complex numbers, text, objects and keys are not."""
    return any(jnp.issubdtype(dtype, kind) for kind in (np.bool_, np.integer, np.floating))


def is_whole(dtype: Any) -> bool:
    """Whether a dtype holds whole numbers, booleans included."""
    return any(jnp.issubdtype(dtype, kind) for kind in (np.bool_, np.integer))


def is_text(values: Any) -> bool:
    """Whether an array or a nested list holds strings or bytes."""
    first = values
    while isinstance(first, list | tuple) and first:
        first = first[0]
    if isinstance(first, np.ndarray) and first.size and not is_number(first.dtype):
        first = first.flat[0]
    return isinstance(first, str | bytes)


def wide(dtype: Any) -> Any:
    """The precision that values are summed and compared in: float64 for float64, float32 for all others."""
    return np.float64 if dtype == np.float64 else np.float32


def seen(array: Any) -> np.ndarray | None:
    """The values on the host; None where they cannot be seen."""
    return None if is_hidden(array) else np.asarray(array)


def is_hidden(array: Any) -> bool:
    """Whether the values of an array cannot be looked at: it is being traced, or lies on other hosts."""
    try:
        return isinstance(array, jax.Array) and not array.is_fully_addressable
    except (jax.errors.ConcretizationTypeError, AttributeError):  # what a traced array raises
        return True


def span(array: np.ndarray) -> str:
    """The range of values, for an error."""
    finite = np.asarray(array, np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return "without a finite value"
    low, high = f"{finite.min():.4g}", f"{finite.max():.4g}"
    return f"all {low}" if low == high else f"from {low} to {high}"


def _is_lazy(values: Any) -> bool:
    """Whether something reads like an array, a part at a time, as an HDF5 data set does."""
    if not all(hasattr(values, name) for name in ("shape", "dtype", "__getitem__", "__len__")):
        return False
    try:
        np.dtype(values.dtype)
    except TypeError:  # PyTorch's tensors have types of their own
        return False
    return True
