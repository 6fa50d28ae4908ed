"""Batches of many accounts' images through victim, detector and defense, in one compiled program of fixed sizes."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax.detection.policy import Policy, PolicyState
from pp_jax.serving.perturbation import image_key
from pp_jax.types import Query

Look = Callable[[Any, jax.Array], tuple[jax.Array, jax.Array]]
"""`look(params, image) -> (posterior (K,), features (F,))`: the victim, for one image."""


class Answers(NamedTuple):
    """What a batch came to, on the host; all but the responses is the defender's.

    Attributes:
        responses: (B, K) float32.
        probs: clean posteriors, (B, K).
        scores: of the accounts at each image, (B,).
        bands: at each image, (B,).
    """

    responses: np.ndarray
    probs: np.ndarray
    scores: np.ndarray
    bands: np.ndarray


class Engine:
    """Answers batches; remembers accounts. One thread at a time.

    A batch is padded to the next of a few sizes, all compiled beforehand. Every size is worked on in blocks of the
    smallest one by the same program, so the response to an image does not depend on who else is in the batch: bit for
    bit, on the same kind of machine.

    Args:
        look: the victim; None where posteriors come from elsewhere (`answer(…, probs=…)`).
        params: its parameters.
        policy: detector and actions.
        key: the defender's secret key.
        image_shape: (H, W, C).
        classes: K.
        sizes: of batches, each a multiple of the first.

    Raises:
        ValueError: for sizes that are no multiples of the first, in rising order.
    """

    def __init__(
        self,
        look: Look | None,
        params: Any,
        policy: Policy,
        key: jax.Array,
        image_shape: tuple[int, int, int],
        classes: int,
        sizes: Sequence[int] = (16, 64, 256),
    ) -> None:
        if not sizes or list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or any(s % sizes[0] for s in sizes):
            raise ValueError(f"sizes must be rising multiples of the first, not {list(sizes)}")
        self.sizes = tuple(sizes)
        self.policy = policy
        self._look, self._params, self._key = look, params, key
        self._shape, self._classes = image_shape, classes
        self._fresh = jax.device_get(policy.init())
        self._accounts: dict[str, PolicyState] = {}

    @property
    def largest(self) -> int:
        """Images in one batch, at most."""
        return self.sizes[-1]

    def warm(self) -> None:
        """Compile every size."""
        for size in self.sizes:
            images = np.zeros((size, *self._shape), np.float32)
            probs = None if self._look is not None else np.full((size, self._classes), 1 / self._classes, np.float32)
            self.answer(images, [None] * size, probs=probs)

    def answer(self, images: np.ndarray, names: Sequence[str | None], *, probs: np.ndarray | None = None) -> Answers:
        """Answer images in their order, each for an account.

        Args:
            images: (B, H, W, C) float32 in [0, 1], B ≤ `largest`.
            names: whose each is, B; nothing is remembered of None.
            probs: posteriors of these, where they come from elsewhere, (B, K).
        """
        count = len(images)
        size = next(size for size in self.sizes if size >= count)
        who = list(dict.fromkeys(names))
        places = np.zeros(size, np.int32)
        places[:count] = [who.index(name) for name in names]
        states = [self.state(name) for name in who]
        stacked = jax.tree.map(lambda fresh, *own: _column(fresh, own, size), self._fresh, *states)
        padded = np.zeros((size, *self._shape), np.float32)
        padded[:count] = images
        given = None
        if probs is not None:
            given = np.full((size, self._classes), 1 / self._classes, np.float32)
            given[:count] = probs
        found, after = _answered(
            self._look, self.sizes[0], self._params, self.policy, self._key, padded, given, places, stacked, count
        )
        host = jax.device_get(after)
        for place, name in enumerate(who):
            if name is not None:
                self._accounts[name] = jax.tree.map(lambda leaf, place=place: leaf[place].copy(), host)
        return Answers(*(np.asarray(column)[:count] for column in found))

    def state(self, name: str | None) -> PolicyState:
        """What is remembered of an account."""
        return self._fresh if name is None else self._accounts.get(name, self._fresh)

    @property
    def accounts(self) -> tuple[str, ...]:
        """Those of which something is remembered."""
        return tuple(self._accounts)

    def restore(self, name: str, state: PolicyState) -> None:
        """Remember this of an account."""
        self._accounts[name] = state

    def forget(self, name: str) -> None:
        """Remember nothing of an account."""
        self._accounts.pop(name, None)


def _column(fresh: np.ndarray, own: Sequence[np.ndarray], size: int) -> np.ndarray:
    """One leaf of so many accounts' memories, those that are not there fresh."""
    column = np.empty((size, *np.shape(fresh)), np.asarray(fresh).dtype)
    for place, leaf in enumerate(own):
        column[place] = leaf
    column[len(own) :] = fresh
    return column


@functools.partial(jax.jit, static_argnums=(0, 1))
def _answered(
    look: Look | None, block: int, params: Any, policy: Policy, key: jax.Array, images: jax.Array,
    probs: jax.Array | None, places: jax.Array, states: PolicyState, count: jax.Array,
) -> tuple[tuple[jax.Array, ...], PolicyState]:  # fmt: skip
    """Responses, posteriors, scores and bands, and the accounts' memories after the batch."""

    def one(row: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
        image = row[0]
        if look is None:
            y, features = row[1], policy.features_fn(policy.params, image)
        else:
            y, features = look(params, image)
        query = Query(image, image_key(key, image) if policy.random else None)
        responses = jnp.stack([policy.respond(band, y, query) for band in range(len(policy.actions))])
        return y, features, responses

    rows = (images,) if probs is None else (images, probs)
    y, features, responses = jax.lax.map(one, rows, batch_size=block)

    def step(states: PolicyState, row: tuple[jax.Array, ...]) -> tuple[PolicyState, tuple[jax.Array, jax.Array]]:
        index, place, image, y, h = row
        old = jax.tree.map(lambda leaf: leaf[place], states)
        new = policy.watched(old, image, y, h)
        new = jax.tree.map(lambda a, b: jnp.where(index < count, a, b), new, old)
        return jax.tree.map(lambda leaf, own: leaf.at[place].set(own), states, new), (new.score, new.band)

    order = jnp.arange(len(images))
    states, (scores, bands) = jax.lax.scan(step, states, (order, places, images, y, features))
    picked = y if policy.audit_only else jnp.take_along_axis(responses, bands[:, None, None], axis=1)[:, 0]
    return (picked.astype(jnp.float32), y, scores, bands), states
