"""What is remembered of an account as bytes and back, without pickle."""

import hashlib
from typing import Any

import jax
import numpy as np

_DIGEST = 16


def packed(state: Any) -> bytes:
    """The leaves of an account's memory, behind a digest of their shapes, types and bytes."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    body = b"".join(leaf.tobytes() for leaf in leaves)
    return _digest(leaves, body) + body


def unpacked(data: bytes, like: Any) -> Any:
    """The memory again; None where it is another detector's, or damaged.

    Args:
        data: what `packed` made.
        like: a fresh memory of the present detector.
    """
    leaves, structure = jax.tree.flatten(like)
    leaves = [np.asarray(leaf) for leaf in leaves]
    body = data[_DIGEST:]
    if len(body) != sum(leaf.nbytes for leaf in leaves) or data[:_DIGEST] != _digest(leaves, body):
        return None
    found, start = [], 0
    for leaf in leaves:
        found.append(np.frombuffer(body, leaf.dtype, leaf.size, start).reshape(leaf.shape).copy())
        start += leaf.nbytes
    return jax.tree.unflatten(structure, found)


def _digest(leaves: list[np.ndarray], body: bytes) -> bytes:
    kinds = repr([(leaf.shape, leaf.dtype.str) for leaf in leaves])
    return hashlib.blake2b(kinds.encode() + body, digest_size=_DIGEST).digest()
