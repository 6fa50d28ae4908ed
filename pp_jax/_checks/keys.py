"""Random keys: `jax.random.key(0)`, of any implementation, or JAX's older raw ones."""

from typing import Any

import jax
import numpy as np

# Words of a raw key: of threefry, and of the others.
_RAW = (2, 4)


def check_random_key(key: Any, *, name: str = "key", count: int | None = None) -> None:
    """Refuse what is no random key.

    Args:
        key: to be checked; one that is being traced is known by its type.
        name: how an error calls it.
        count: how many keys there must be, as a leading axis; None for a single one.

    Raises:
        ValueError: naming what was found, and what to write.
    """
    write = "jax.random.key(0)" if count is None else f"jax.random.split(jax.random.key(0), {count})"
    needed = "a random key" if count is None else f"{count} random keys"
    if not is_key(key):
        what = f"{key!r}" if key is None or isinstance(key, int | float | str | np.generic) else type(key).__name__
        raise ValueError(f"{name} is {what}: must be {needed}; write {name}={write}")
    raw = not jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    shape = key.shape[:-1] if raw else key.shape
    if shape != (() if count is None else (count,)):
        raise ValueError(f"{name} has shape {key.shape}: must be {needed}; write {name}={write}")


def is_key(key: Any) -> bool:
    """Whether something is one random key or an array of them."""
    if not isinstance(key, jax.Array | np.ndarray):
        return False
    if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        return True
    return bool(key.dtype == np.uint32 and key.ndim and key.shape[-1] in _RAW)
