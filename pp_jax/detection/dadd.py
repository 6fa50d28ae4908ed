"""D-ADD: the features of an account's last queries, class by class, against those of the training images."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_count
from pp_jax.detection.sometimes import when
from pp_jax.detection.windows import Window, empty, push
from pp_jax.pytree import pytree
from pp_jax.types import SummarisingDetector

_SHRINKAGE = 1e-6


class DaddState(NamedTuple):
    """The last queries: features, features times Σ_c^½ of their predicted class, and that class; the last score."""

    features: Window
    scaled: Window
    classes: jax.Array
    score: jax.Array


@pytree
@dataclasses.dataclass(frozen=True)
class Dadd(SummarisingDetector[DaddState]):
    """D-ADD: the mean squared Fréchet distance between the training features of a class and the last queries of it.

    score = Σ_c n_c F²(N(μ_c, Σ_c), N(μ̂_c, Σ̂_c)) / n
    F² = ‖μ_c − μ̂_c‖² + tr Σ_c + tr Σ̂_c − 2 tr (Σ_c^½ Σ̂_c Σ_c^½)^½

    over the last n queries, n_c of them of predicted class c, with μ̂_c and Σ̂_c their mean and covariance (divided by
    n_c). With n_c below the number of features Σ̂_c has rank n_c − 1 and F² stays far from zero for benign accounts
    too: only the threshold's calibration tells. Between tests the last score stands; it is −∞ until the window is full.

    The last trace is the sum of singular values of the centred rows times Σ_c^½, taken from an n × n matrix. Features
    are first projected on the d principal axes of the training features.

    Memory an account: 4·(n·(2·d + 1) + 3) bytes.

    Attributes:
        axes: principal axes, (F, d).
        means: μ_c, (K, d).
        roots: Σ_c^½, (K, d, d).
        window: n; static.
        every: queries from score to score; static.

    Raises:
        ValueError: for a window below 2, or scores less than a query apart.

    Source: "D-ADD", AAAI 2025, arXiv 2503.12497; windows of 16 (MNIST, CIFAR-10) to 256 (CIFAR-100).
    """

    axes: jax.Array
    means: jax.Array
    roots: jax.Array
    window: int = dataclasses.field(default=16, metadata={"static": True})
    every: int = dataclasses.field(default=4, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the counts."""
        check_count("window", self.window, low=2)
        check_count("every", self.every, low=1)

    @classmethod
    def fitted(cls, features: Any, labels: Any, *, window: int = 16, components: int = 64) -> "Dadd":
        """Take μ_c and Σ_c from training features, (N, F), and their classes, (N,).

        Args:
            features: of training images.
            labels: their classes.
            window: n.
            components: d, at most.

        Raises:
            ValueError: for a class with fewer than two images, or a window below 2.
        """
        rows, classes = np.asarray(features, np.float64), np.asarray(labels)
        counts = np.bincount(classes)
        few = int(counts.argmin())
        if counts[few] < 2:
            raise ValueError(f"every class needs at least 2 images, but class {few} has {counts[few]}")
        axes = np.linalg.eigh(np.cov(rows.T))[1][:, ::-1][:, :components]
        groups = [rows[classes == c] @ axes for c in range(len(counts))]
        roots = [_root(np.cov(group.T, bias=True)) for group in groups]
        means = [group.mean(axis=0) for group in groups]
        return cls(_single(axes), _single(np.stack(means)), _single(np.stack(roots)), window)

    def init(self) -> DaddState:
        """Return the memory before the first query."""
        rows = empty(self.window, (self.means.shape[1],))
        never = jnp.asarray(-jnp.inf, jnp.float32)
        return DaddState(rows, rows, jnp.zeros(self.window, jnp.int32), never)

    def summarise(
        self, image: jax.Array, probs: jax.Array, features: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return the features on the principal axes, (d,), these times Σ_c^½, (d,), and the class c."""
        del image
        label = jnp.argmax(probs).astype(jnp.int32)
        row = features.astype(jnp.float32) @ self.axes
        # By all roots, then the one: mapped over queries that is one product, where a choice would copy the roots.
        return row, jnp.einsum("d,kde->ke", row, self.roots)[label], label

    def fold(self, state: DaddState, summary: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[DaddState, jax.Array]:
        """Return the memory after a query, and the score."""
        row, scaled, label = summary
        classes = state.classes.at[state.features.seen % self.window].set(label)
        new = DaddState(push(state.features, row), push(state.scaled, scaled), classes, state.score)
        due = new.features.full & (new.features.seen % self.every == 0)
        score = when(due, Dadd._distance, state.score, self, new)
        return new._replace(score=score), score

    def _distance(self, state: DaddState) -> jax.Array:
        """Σ_c n_c F²_c / n."""
        rows, classes = state.features.rows, state.classes
        together = classes[:, None] == classes[None, :]
        counts = jnp.sum(together, axis=1).astype(rows.dtype)  # n_c of each row's class
        # Summed over the n_c rows of a class, ‖row − μ_c‖² is n_c (‖μ̂_c − μ_c‖² + tr Σ̂_c), and tr Σ_c comes n_c times.
        traces = jnp.sum(self.roots**2, axis=(1, 2))
        plain = jnp.sum((rows - self.means[classes]) ** 2) + jnp.sum(traces[classes])
        scaled = state.scaled.rows
        centred = (scaled - (together @ scaled) / counts[:, None]) * jnp.sqrt(counts)[:, None]
        gram = jnp.where(together, centred @ centred.T, 0)
        values = jnp.linalg.eigvalsh(gram)
        # Of rank below n: the root of a zero's rounding error would be large.
        positive = values > 1e-5 * values[-1]
        crossed = jnp.sum(jnp.where(positive, jnp.sqrt(jnp.where(positive, values, 1)), 0))
        return (plain - 2 * crossed) / len(rows)


def _single(array: np.ndarray) -> jax.Array:
    """In single precision."""
    return jnp.asarray(array, jnp.float32)


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root of a covariance, shrunk so that it exists."""
    values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
    floor = _SHRINKAGE * max(float(values[-1]), 1e-12)
    return np.asarray((vectors * np.sqrt(np.maximum(values, floor))) @ vectors.T)
