"""What an account asks about: the distribution of its predicted classes against that of benign accounts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_count
from pp_jax.detection.windows import Window, empty, push
from pp_jax.pytree import pytree
from pp_jax.types import SummarisingDetector


@pytree
@dataclasses.dataclass(frozen=True)
class LabelMMD(SummarisingDetector[Window]):
    """The maximum mean discrepancy between the predicted classes of the last n queries and of benign ones.

    MMD² = Σ_k n_k (n_k − 1) / (n (n − 1)) − 2 Σ_k q_k n_k / n + Σ_k q_k²

    with n_k queries of class k in the window and q_k their share in benign traffic: the unbiased estimate of
    ‖p − q‖₂², for the kernel that is 1 for equal classes and 0 for others. The score is −∞ until the window is full.
    An honest account that asks about few classes scores as high as an attacker: see the table of benign accounts.

    Memory an account: 4·(n + 1) bytes.

    Attributes:
        shares: q, (K,), positive and summing to one.
        window: n, at least 2; static.

    Raises:
        ValueError: for a window below 2.

    Source: Gretton, Borgwardt, Rasch, Schölkopf, Smola, "A kernel two-sample test", JMLR 2012.
    """

    shares: jax.Array
    window: int = dataclasses.field(default=64, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the window."""
        check_count("window", self.window, low=2)

    @classmethod
    def fitted(cls, probs: np.ndarray, *, window: int = 64) -> "LabelMMD":
        """Take q from the posteriors of benign queries, (N, K)."""
        counts = np.bincount(np.argmax(probs, axis=1), minlength=np.shape(probs)[1])
        return cls(jnp.asarray(counts / counts.sum(), jnp.float32), window)

    def init(self) -> Window:
        """Return the memory before the first query."""
        return empty(self.window, (), jnp.int32)

    def summarise(self, image: jax.Array, probs: jax.Array, features: jax.Array) -> jax.Array:
        """Return the predicted class."""
        del image, features
        return jnp.argmax(probs).astype(jnp.int32)

    def fold(self, state: Window, summary: jax.Array) -> tuple[Window, jax.Array]:
        """Return the memory after a query of this class, and the score MMD²."""
        state = push(state, summary)
        n = self.window
        counts = jnp.sum(state.rows[:, None] == jnp.arange(len(self.shares))[None, :], axis=0).astype(jnp.float32)
        score = (
            jnp.sum(counts * (counts - 1)) / (n * (n - 1))
            - 2 * jnp.sum(self.shares * counts) / n
            + jnp.sum(self.shares**2)
        )
        return state, jnp.where(state.full, score, -jnp.inf)
