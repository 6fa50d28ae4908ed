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
class MeanPValue:
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

    def update(
        self, state: Window, image: jax.Array, probs: jax.Array, features: jax.Array
    ) -> tuple[Window, jax.Array]:
        """Return the memory after a query and the score; see `types.Detector`."""
        state = push(state, self.p_value(image, probs, features))
        return state, jnp.where(state.full, 0.5 - jnp.mean(state.rows), -jnp.inf)


@pytree
@dataclasses.dataclass(frozen=True)
class KolmogorovSmirnov:
    """The largest gap between the distribution of a score over the last n queries and that of benign queries.

    D = sup_t |F_n(t) − F(t)|,   F_n and F the empirical distribution functions of window and benign queries

    −∞ until the window is full.

    Memory an account: 4·(n + 1) bytes.

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
        return empty(self.window)

    def update(
        self, state: Window, image: jax.Array, probs: jax.Array, features: jax.Array
    ) -> tuple[Window, jax.Array]:
        """Return the memory after a query and the score D; see `types.Detector`."""
        state = push(state, self.score(image, probs, features))
        own = jnp.sort(state.rows)
        gaps = [
            jnp.searchsorted(own, own, side=side) / self.window
            - jnp.searchsorted(self.benign, own, side=side) / len(self.benign)
            for side in ("left", "right")
        ]
        return state, jnp.where(state.full, jnp.max(jnp.abs(jnp.stack(gaps))), -jnp.inf)
