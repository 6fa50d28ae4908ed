"""D-ADD: the features of an account's last queries, class by class, against those of the training images."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._validate import check_count
from pp_jax.detection.windows import Window, empty, push
from pp_jax.pytree import pytree

_SHRINKAGE = 1e-6


class DaddState(NamedTuple):
    """The features of the last queries and their predicted classes."""

    features: Window
    classes: jax.Array


@pytree
@dataclasses.dataclass(frozen=True)
class Dadd:
    """D-ADD: the mean squared Fréchet distance between the training features of a class and the last queries of it.

    score = Σ_c n_c F²(N(μ_c, Σ_c), N(μ̂_c, Σ̂_c)) / n
    F² = ‖μ_c − μ̂_c‖² + tr Σ_c + tr Σ̂_c − 2 tr (Σ_c^½ Σ̂_c Σ_c^½)^½

    over the last n queries, n_c of them of predicted class c, with μ̂_c and Σ̂_c their mean and covariance (divided by
    n_c). With n_c below the number of features Σ̂_c has rank n_c − 1 and F² stays far from zero for benign accounts
    too: only the threshold's calibration tells. −∞ until the window is full.

    The last trace is the sum of singular values of the centred rows times Σ_c^½, taken from an n × n matrix.

    Memory an account: 4·(n·(F + 1) + 1) bytes.

    Attributes:
        means: μ_c, (K, F).
        roots: Σ_c^½, (K, F, F).
        window: n; static.

    Raises:
        ValueError: for a window below 2.

    Source: "D-ADD", AAAI 2025, arXiv 2503.12497; windows of 16 (MNIST, CIFAR-10) to 256 (CIFAR-100).
    """

    means: jax.Array
    roots: jax.Array
    window: int = dataclasses.field(default=16, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the window."""
        check_count("window", self.window, low=2)

    @classmethod
    def fitted(cls, features: Any, labels: Any, *, window: int = 16) -> "Dadd":
        """Take μ_c and Σ_c from training features, (N, F), and their classes, (N,).

        Raises:
            ValueError: for a class with fewer than two images, or a window below 2.
        """
        rows, classes = np.asarray(features, np.float64), np.asarray(labels)
        counts = np.bincount(classes)
        few = int(counts.argmin())
        if counts[few] < 2:
            raise ValueError(f"every class needs at least 2 images, but class {few} has {counts[few]}")
        groups = [rows[classes == c] for c in range(len(counts))]
        roots = [_root(np.cov(group.T, bias=True)) for group in groups]
        means = [group.mean(axis=0) for group in groups]
        return cls(jnp.asarray(np.stack(means), jnp.float32), jnp.asarray(np.stack(roots), jnp.float32), window)

    def init(self) -> DaddState:
        """Return the memory before the first query."""
        return DaddState(empty(self.window, (self.means.shape[1],)), jnp.zeros(self.window, jnp.int32))

    def update(
        self, state: DaddState, image: jax.Array, probs: jax.Array, features: jax.Array
    ) -> tuple[DaddState, jax.Array]:
        """Return the memory after a query and the score; see `types.Detector`."""
        del image
        place = state.features.seen % self.window
        classes = state.classes.at[place].set(jnp.argmax(probs).astype(jnp.int32))
        state = DaddState(push(state.features, features), classes)
        score = jax.lax.cond(state.features.full, lambda: self._distance(state), lambda: jnp.float32(-jnp.inf))
        return state, score

    def _distance(self, state: DaddState) -> jax.Array:
        """Σ_c n_c F²_c / n."""
        rows, classes = state.features.rows, state.classes
        together = classes[:, None] == classes[None, :]
        counts = jnp.sum(together, axis=1).astype(rows.dtype)  # n_c of each row's class
        centred = rows - (together @ rows) / counts[:, None]
        shifted = rows - self.means[classes]
        roots = self.roots[classes]
        # Summed over the n_c rows of a class, ‖row − μ_c‖² is n_c (‖μ̂_c − μ_c‖² + tr Σ̂_c), and tr Σ_c comes n_c times.
        plain = jnp.sum(shifted**2) + jnp.sum(roots**2)
        scaled = jnp.einsum("nf,nfg->ng", centred, roots) * jnp.sqrt(counts)[:, None]
        gram = jnp.where(together, scaled @ scaled.T, 0)
        crossed = jnp.sum(jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(gram), 0)))
        return (plain - 2 * crossed) / len(rows)


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root of a covariance, shrunk so that it exists."""
    values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
    floor = _SHRINKAGE * max(float(values[-1]), 1e-12)
    return np.asarray((vectors * np.sqrt(np.maximum(values, floor))) @ vectors.T)
