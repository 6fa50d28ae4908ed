"""A few labelled images of the attacker's own, beside what it learns from responses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax.evaluation.victims import Images
from pp_jax.recovery.simple import nudge
from pp_jax.types import TransferSet

# Changed copies of the own images, where there is no transfer set that they should outweigh.
_COPIES = 2000


def chosen(key: jax.Array, own: Images, count: int) -> tuple[np.ndarray, np.ndarray]:
    """So many of an attacker's labelled images, drawn in turn from every class."""
    labels = np.asarray(own.labels)
    order = np.asarray(jax.random.permutation(key, len(labels)))
    # The first image of every class, then the second of every class, …
    turns = np.zeros(len(labels), int)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        turns[rows] = np.arange(len(rows))
    rows = order[np.argsort(turns[order], kind="stable")][:count]
    return np.asarray(own.images)[rows], labels[rows]


def joined(key: jax.Array, targets: TransferSet, own: Images, count: int, classes: int) -> TransferSet:
    """The transfer set with turned, scaled and shifted copies of own images, as many as there are responses.

    Args:
        key: randomness of the choice and of the copies.
        targets: what the responses came to; may be empty.
        own: the attacker's labelled images.
        count: how many of them it has.
        classes: K.
    """
    choice_key, copy_key = jax.random.split(key)
    images, labels = chosen(choice_key, own, count)
    copies = len(targets.images) or _COPIES
    rows = np.arange(copies) % len(images)
    changed = np.asarray(_changed(jax.random.split(copy_key, copies), jnp.asarray(images[rows])))
    answers = np.asarray(targets.answers)
    wanted = labels[rows] if answers.ndim == 1 else np.eye(classes, dtype=np.float32)[labels[rows]]
    return TransferSet(
        np.concatenate([np.asarray(targets.images), changed]), np.concatenate([answers, wanted.astype(answers.dtype)])
    )


def check_own(own: Any, count: int, name: str, shape: tuple[int, ...], classes: int) -> None:
    """Refuse what is not so many labelled images like the others.

    Raises:
        ValueError: naming the attacker and what it needs.
    """
    if own is None or own.labels is None or len(own.images) < count:
        found = "None" if own is None else f"{len(own.images)} images"
        raise ValueError(f"own is {found}: must be Images(images, labels), at least {count}, for {name}")
    if np.shape(own.images)[1:] != tuple(shape):
        raise ValueError(f"own has images {np.shape(own.images)[1:]}: must be {tuple(shape)}, as those of test")
    if int(np.max(own.labels)) >= classes:
        raise ValueError(f"own has the label {int(np.max(own.labels))}: must be below {classes}, the victim's classes")


@jax.jit
def _changed(keys: Any, images: Any) -> Any:
    """Each image with a change of its own."""
    return jax.vmap(nudge)(keys, images)
