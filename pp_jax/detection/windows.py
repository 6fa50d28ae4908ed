"""The last rows of a stream in bounded memory: what most detectors remember of an account."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Window(NamedTuple):
    """The last n rows that were pushed.

    Attributes:
        rows: (n, …), in no particular order.
        seen: how many rows were ever pushed, int32.
    """

    rows: jax.Array
    seen: jax.Array

    @property
    def filled(self) -> jax.Array:
        """(n,) which rows were pushed already."""
        return jnp.arange(len(self.rows)) < self.seen

    @property
    def full(self) -> jax.Array:
        """Whether n rows were pushed."""
        return self.seen >= len(self.rows)


def empty(size: int, shape: tuple[int, ...] = (), dtype: Any = jnp.float32) -> Window:
    """A window of so many rows, with nothing in it."""
    return Window(jnp.zeros((size, *shape), dtype), jnp.zeros((), jnp.int32))


def push(window: Window, row: jax.Array, *, keep: jax.Array | bool = True) -> Window:
    """The window after another row, in place of the oldest one when it is full; the same window without `keep`."""
    size = len(window.rows)
    place = jnp.where(keep, window.seen % size, size)  # beyond the end nothing is written
    rows = window.rows.at[place].set(row.astype(window.rows.dtype), mode="drop")
    return Window(rows, window.seen + jnp.asarray(keep, jnp.int32))
