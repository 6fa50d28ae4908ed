"""How unusual an account's single queries are, taken together: tests over a window of per-query scores."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_count
from pp_jax.detection.windows import Window, empty, push
from pp_jax.pytree import pytree
from pp_jax.types import SummarisingDetector

Score = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""`score(image, probs, features) -> scalar`: of one query."""


@pytree
@dataclasses.dataclass(frozen=True)
class Confidence:
    """The victim's confidence, max_k y_k."""

    def __call__(self, image: jax.Array, probs: jax.Array, features: jax.Array) -> jax.Array:
        """Return max y."""
        del image, features
        return jnp.max(probs)


@pytree
@dataclasses.dataclass(frozen=True)
class PValue:
    """The p-value of an OOD detector for "this query is of the victim's distribution".

    Attributes:
        gate: such as `pp_jax.novelty.fit` returns: `gate.level(probs, image)`.
    """

    gate: Any

    def __call__(self, image: jax.Array, probs: jax.Array, features: jax.Array) -> jax.Array:
        """Return the p-value."""
        del features
        return self.gate.level(probs, image)


@pytree
@dataclasses.dataclass(frozen=True)
class MeanPValue(SummarisingDetector[Window]):
    """The mean p-value of the last n queries, so that an account adds up what single queries hide.

    score = ½ − (1/n) Σ_i p_i

    The p-values of benign queries are uniform, so benign accounts score around 0 with standard deviation 1/√(12 n);
    nothing scores above ½. −∞ until the window is full.

    Memory an account: 4·(n + 1) bytes.

    Attributes:
        p_value: of one query, in [0, 1].
        window: n; static.

    Raises:
        ValueError: for a window below 1.
    """

    p_value: Score
    window: int = dataclasses.field(default=64, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the window."""
        check_count("window", self.window, low=1)

    def init(self) -> Window:
        """Return the memory before the first query."""
        return empty(self.window)

    def summarise(self, image: jax.Array, probs: jax.Array, features: jax.Array) -> jax.Array:
        """Return the p-value."""
        return self.p_value(image, probs, features)

    def fold(self, state: Window, summary: jax.Array) -> tuple[Window, jax.Array]:
        """Return the memory after a query of this p-value, and the score."""
        state = push(state, summary)
        return state, jnp.where(state.full, 0.5 - jnp.mean(state.rows), -jnp.inf)


@pytree
@dataclasses.dataclass(frozen=True)
class KolmogorovSmirnov(SummarisingDetector[Window]):
    """The largest gap between the distribution of a score over the last n queries and that of benign queries.

    D = sup_t |F_n(t) − F(t)|,   F_n and F the empirical distribution functions of window and benign queries

    −∞ until the window is full.

    Memory an account: 4·(3·n + 1) bytes.

    Attributes:
        score: of one query.
        benign: scores of N benign queries, sorted, (N,).
        window: n; static.

    Raises:
        ValueError: for a window below 1.

    Source: the two-sample statistic of Kolmogorov and Smirnov; used on accounts by FlowGuard, 2025.
    """

    score: Score
    benign: jax.Array
    window: int = dataclasses.field(default=64, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the window."""
        check_count("window", self.window, low=1)

    @classmethod
    def fitted(cls, score: Score, images: Any, probs: Any, features: Any, *, window: int = 64) -> "KolmogorovSmirnov":
        """Take F from benign queries: images (N, H, W, C), posteriors (N, K), features (N, F)."""
        values = jax.lax.map(lambda row: score(*row), (jnp.asarray(images), probs, features), batch_size=256)
        return cls(score, jnp.asarray(np.sort(np.asarray(values, np.float32))), window)

    def init(self) -> Window:
        """Return the memory before the first query."""
        return empty(self.window, (3,))

    def summarise(self, image: jax.Array, probs: jax.Array, features: jax.Array) -> jax.Array:
        """Return the score of the query with F just below and at it, (3,)."""
        score = self.score(image, probs, features).astype(jnp.float32)
        below, up_to = (jnp.searchsorted(self.benign, score, side=side) for side in ("left", "right"))
        return jnp.stack([score, below / len(self.benign), up_to / len(self.benign)]).astype(jnp.float32)

    def fold(self, state: Window, summary: jax.Array) -> tuple[Window, jax.Array]:
        """Return the memory after a query, and the score D."""
        state = push(state, summary)
        own, below, up_to = state.rows.T
        # Both functions jump at the window's own scores: the gap is largest just below one of them, or at it.
        left = jnp.abs(jnp.mean(own[:, None] < own[None, :], axis=0, dtype=jnp.float32) - below)
        right = jnp.abs(jnp.mean(own[:, None] <= own[None, :], axis=0, dtype=jnp.float32) - up_to)
        return state, jnp.where(state.full, jnp.maximum(jnp.max(left), jnp.max(right)), -jnp.inf)
