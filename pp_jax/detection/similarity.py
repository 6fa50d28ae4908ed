"""Queries that are changed copies of earlier ones, as attacks that walk through the input space make them."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_count, check_range
from pp_jax.detection.views import Features, View
from pp_jax.detection.windows import Window, empty, push
from pp_jax.pytree import pytree
from pp_jax.types import SummarisingDetector


class SimilarityState(NamedTuple):
    """The last queries as vectors, and which of the last ones matched an earlier one."""

    seen: Window
    matches: Window


@pytree
@dataclasses.dataclass(frozen=True)
class Similarity(SummarisingDetector[SimilarityState]):
    """The share of the last n queries that lie within a small distance of one of the m queries before them.

    match_i = [min_j ‖v_i − v_j‖₂ < r],   score = (1/n) Σ_i match_i

    −∞ until n queries have come.

    Memory an account: 4·(m·D + n + 2) bytes.

    Attributes:
        radius: r; a leaf.
        size: D, the length of the view's vectors; static.
        view: what distances are measured in.
        memory: m; static.
        window: n; static.

    Raises:
        ValueError: for a count below 1 or a negative radius.

    Source: Zhang, Chen, Wagner, "SEAT: similarity encoder by adversarial training for detecting model extraction
        attack queries", AISec 2021; here on the victim's own features in place of an encoder trained for it.
    """

    radius: jax.Array | float
    size: int = dataclasses.field(metadata={"static": True})
    view: View = Features()  # noqa: RUF009
    memory: int = dataclasses.field(default=256, metadata={"static": True})
    window: int = dataclasses.field(default=64, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("size", "memory", "window"):
            check_count(name, getattr(self, name), low=1)
        check_range("radius", self.radius, low=0, high=float("inf"))

    @classmethod
    def fitted(
        cls, vectors: np.ndarray, *, view: View | None = None, share: float = 0.001, memory: int = 256, window: int = 64
    ) -> "Similarity":
        """Take r from benign queries as vectors, (N, D): a share of them lies within r of one of m others.

        Args:
            vectors: of benign queries, in random order, more than `memory`.
            view: how they were made; the victim's features by default.
            share: of benign queries that match.
            memory: m.
            window: n.

        Raises:
            ValueError: for too few vectors, or as the class.
        """
        rows = np.asarray(vectors, np.float32)
        if len(rows) <= memory:
            raise ValueError(f"there must be more than {memory} vectors, the memory, not {len(rows)}")
        others, asked = rows[:memory], rows[memory:]
        nearest = jax.lax.map(
            lambda v: jnp.min(jnp.sum((others - v[None, :]) ** 2, axis=1)), jnp.asarray(asked), batch_size=256
        )
        radius = float(np.quantile(np.sqrt(np.asarray(nearest)), share))
        return cls(radius, rows.shape[1], Features() if view is None else view, memory, window)

    def init(self) -> SimilarityState:
        """Return the memory before the first query."""
        return SimilarityState(empty(self.memory, (self.size,)), empty(self.window, (), jnp.bool_))

    def summarise(self, image: jax.Array, probs: jax.Array, features: jax.Array) -> jax.Array:
        """Return the query as a vector, (D,)."""
        del probs
        return self.view(image, features)

    def fold(self, state: SimilarityState, summary: jax.Array) -> tuple[SimilarityState, jax.Array]:
        """Return the memory after a query, and the share of matches."""
        distances = jnp.sum((state.seen.rows - summary[None, :]) ** 2, axis=1)
        squared = jnp.where(state.seen.filled, distances, jnp.inf)
        matches = push(state.matches, jnp.min(squared) < jnp.asarray(self.radius) ** 2)
        score = jnp.where(matches.full, jnp.mean(matches.rows, dtype=jnp.float32), -jnp.inf)
        return SimilarityState(push(state.seen, summary), matches), score
