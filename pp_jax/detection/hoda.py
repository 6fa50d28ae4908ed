"""HODA: how hard an account's queries are for the victim, against the hardness of benign queries."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pp_jax._checks import check_count
from pp_jax.detection.windows import Window, empty, push
from pp_jax.pytree import pytree
from pp_jax.types import LogitsFn, Params, SummarisingDetector


@pytree
@dataclasses.dataclass(frozen=True)
class Hoda(SummarisingDetector[Window]):
    """HODA: the Pearson distance between hardness histograms of the last n queries and of benign ones.

    hardness(x) = the first epoch e from which on all snapshots predict the class that the last one predicts
    score = 1 − corr(histogram of the window, benign histogram)

    The victim is asked at E epochs of its training; easy images have their class from the first on. −∞ until the window
    is full.

    Memory an account: 4·(n + 1) bytes; an update costs E forward passes.

    Attributes:
        logits_fn: the victim's architecture; static.
        snapshots: its parameters after E epochs of its training, the last ones last, each leaf with an axis E in front.
        benign: shares of benign queries by hardness, (E,).
        window: n, 50 or 100 as published; static.

    Raises:
        ValueError: for a window below 2.

    Source: Sadeghzadeh, Sobhanian, Dehghan, Jalili, "HODA: hardness-oriented detection of model extraction attacks",
        IEEE TIFS 2024.
    """

    logits_fn: LogitsFn = dataclasses.field(metadata={"static": True})
    snapshots: Params
    benign: jax.Array
    window: int = dataclasses.field(default=50, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the window."""
        check_count("window", self.window, low=2)

    @classmethod
    def fitted(cls, logits_fn: LogitsFn, snapshots: list[Params], images: Any, *, window: int = 50) -> "Hoda":
        """Stack snapshots, and take the benign histogram from the images of benign queries.

        Args:
            logits_fn: the victim's architecture.
            snapshots: copies of the parameters after several epochs, in order, at least 2 (what `on_epoch` is
                told is overwritten: keep `jax.tree.map(np.array, state.params)`).
            images: of benign queries, (N, H, W, C).
            window: n.

        Raises:
            ValueError: for fewer than two snapshots, benign queries that are all equally hard, or a window below 2.
        """
        if len(snapshots) < 2:
            raise ValueError(f"snapshots must be at least 2, not {len(snapshots)}: keep parameters by epoch")
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *snapshots)
        new = cls(logits_fn, stacked, jnp.zeros(len(snapshots)), window)
        degrees = jax.jit(lambda x: jax.lax.map(new.hardness, x, batch_size=64))(jnp.asarray(images))
        benign = jnp.bincount(degrees, length=len(snapshots)) / len(degrees)
        if int(jnp.sum(benign > 0)) < 2:
            raise ValueError("all benign queries are equally hard: take snapshots of earlier epochs")
        return dataclasses.replace(new, benign=benign)

    def hardness(self, image: jax.Array) -> jax.Array:
        """The hardness of one image, 0 … E − 1."""
        classes = jax.vmap(lambda params: jnp.argmax(self.logits_fn(params, image)))(self.snapshots)
        other = classes != classes[-1]
        return jnp.max(jnp.where(other, jnp.arange(len(classes)) + 1, 0)).astype(jnp.int32)

    def init(self) -> Window:
        """Return the memory before the first query."""
        return empty(self.window, (), jnp.int32)

    def summarise(self, image: jax.Array, probs: jax.Array, features: jax.Array) -> jax.Array:
        """Return the hardness."""
        del probs, features
        return self.hardness(image)

    def fold(self, state: Window, summary: jax.Array) -> tuple[Window, jax.Array]:
        """Return the memory after a query of this hardness, and the Pearson distance, in [0, 2]."""
        state = push(state, summary)
        own = jnp.sum(state.rows[:, None] == jnp.arange(len(self.benign))[None, :], axis=0) / self.window
        a, b = own - jnp.mean(own), self.benign - jnp.mean(self.benign)
        norms = jnp.sqrt(jnp.sum(a**2) * jnp.sum(b**2))
        distance = 1 - jnp.sum(a * b) / jnp.where(norms > 0, norms, 1)
        return state, jnp.where(state.full, distance, -jnp.inf)
