"""Mapping a function of one row over many with bounded memory."""

from collections.abc import Callable
from typing import Any

import jax


def each(function: Callable[..., Any], batch_size: int | None, *arrays: jax.Array) -> Any:
    """Map over the leading axis at once, or `batch_size` rows at a time where that is set and smaller."""
    if batch_size is None or batch_size >= arrays[0].shape[0]:
        return jax.vmap(function)(*arrays)
    return jax.lax.map(lambda rows: function(*rows), arrays, batch_size=batch_size)
