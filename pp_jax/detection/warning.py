"""Extraction warning: how much of the victim a decision tree learns from an account's queries."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_count
from pp_jax.detection.sometimes import when
from pp_jax.detection.views import View
from pp_jax.detection.windows import Window, empty, push
from pp_jax.pytree import pytree
from pp_jax.types import SummarisingDetector


class WarningState(NamedTuple):
    """An account's queries as vectors, with the victim's classes, and the last score."""

    asked: Window
    classes: jax.Array
    score: jax.Array


@pytree
@dataclasses.dataclass(frozen=True)
class ExtractionWarning(SummarisingDetector[WarningState]):
    """The information that a decision tree trained on an account's queries has about the victim's classes.

    score = IG(tree of the account) / IG(tree of the defender),   IG = H(S) − Σ_leaf |S_leaf|/|S| H(S_leaf)

    on a validation set S with the victim's classes; H is their entropy, in bits. The defender's tree is trained on
    another validation set of the same traffic. The tree is scikit-learn's (extra `detection`), so the update calls back
    to the host, every so many queries; between these the last score stands, and it is −∞ before the first.

    Memory an account: 4·(memory·(D + 1) + 2) bytes.

    Attributes:
        validation: vectors of S, (N, D).
        labels: the victim's classes of these, (N,).
        best: the information gain of the defender's tree, in bits.
        view: how an image becomes a vector.
        memory: queries that are remembered; the oldest makes room; static.
        every: queries from tree to tree; static.
        depth: of the trees, at most; static.

    Raises:
        ValueError: for a count below 1.

    Source: Kesarwani, Mukhoty, Arya, Mehta, "Model extraction warning in MLaaS paradigm", ACSAC 2018 (its strategy by
        information gain).
    """

    validation: jax.Array
    labels: jax.Array
    best: jax.Array | float
    view: View
    memory: int = dataclasses.field(default=512, metadata={"static": True})
    every: int = dataclasses.field(default=50, metadata={"static": True})
    depth: int = dataclasses.field(default=10, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the counts."""
        for name in ("memory", "every", "depth"):
            check_count(name, getattr(self, name), low=1)

    @classmethod
    def fitted(
        cls, view: View, vectors: Any, classes: Any, *, memory: int = 512, every: int = 50, depth: int = 10
    ) -> "ExtractionWarning":
        """Split benign queries into the validation set and what the defender's tree learns from.

        Args:
            view: how an image becomes a vector.
            vectors: of benign queries, (N, D).
            classes: the victim's classes of these, (N,).
            memory: queries of an account that are remembered.
            every: queries from tree to tree.
            depth: of the trees, at most.

        Raises:
            ValueError: where the defender's tree learns nothing; for a count below 1.
            ImportError: without scikit-learn.
        """
        rows, labels = np.asarray(vectors, np.float32), np.asarray(classes, np.int32)
        half = len(rows) // 2
        best = gained(rows[half:], labels[half:], rows[:half], labels[:half], depth)
        if best <= 0:
            raise ValueError("a decision tree learns nothing from these benign queries: give more, or another view")
        return cls(jnp.asarray(rows[:half]), jnp.asarray(labels[:half]), best, view, memory, every, depth)

    def init(self) -> WarningState:
        """Return the memory before the first query."""
        asked = empty(self.memory, (self.validation.shape[1],))
        return WarningState(asked, jnp.full(self.memory, -1, jnp.int32), jnp.asarray(-jnp.inf, jnp.float32))

    def summarise(self, image: jax.Array, probs: jax.Array, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the query as a vector, (D,), and its predicted class."""
        return self.view(image, features), jnp.argmax(probs).astype(jnp.int32)

    def fold(self, state: WarningState, summary: tuple[jax.Array, jax.Array]) -> tuple[WarningState, jax.Array]:
        """Return the memory after a query, and the score."""
        vector, label = summary
        classes = state.classes.at[state.asked.seen % self.memory].set(label)
        asked = push(state.asked, vector)
        due = asked.seen % self.every == 0
        score = when(due, _tree_score, state.score, self, due, asked.rows, classes, state.score)
        return WarningState(asked, classes, score), score


def _tree_score(
    detector: ExtractionWarning, due: jax.Array, rows: jax.Array, classes: jax.Array, score: jax.Array
) -> jax.Array:
    """The account's share of the information gain, from the host; all accounts of a batch in one call."""
    return jax.pure_callback(
        functools.partial(_on_host, depth=detector.depth),
        jax.ShapeDtypeStruct((), jnp.float32),
        due,
        rows,
        classes,
        score,
        detector.validation,
        detector.labels,
        jnp.asarray(detector.best, jnp.float32),
        vmap_method="expand_dims",
    )


def _on_host(
    due: Any, rows: Any, classes: Any, score: Any, validation: Any, labels: Any, best: Any, *, depth: int
) -> np.ndarray:
    """The share of the defender's information gain that each account's tree has; the last score where none is due."""
    many = np.ndim(classes) == 2
    if not many:
        rows, classes, score, due = (np.asarray(each)[None] for each in (rows, classes, score, due))
    rows, classes = np.asarray(rows), np.asarray(classes)
    count = max(len(rows), len(classes))
    validation, labels = np.asarray(validation).reshape(-1, rows.shape[-1]), np.asarray(labels).ravel()
    out = np.array(np.broadcast_to(np.asarray(score, np.float32), count))
    for place in np.flatnonzero(np.broadcast_to(np.asarray(due), count)):
        known = classes[place] >= 0
        out[place] = gained(rows[place][known], classes[place][known], validation, labels, depth) / float(np.max(best))
    return out if many else out[0]


def gained(rows: np.ndarray, classes: np.ndarray, validation: np.ndarray, labels: np.ndarray, depth: int) -> float:
    """The information gain, in bits, about labels (N,) of a tree trained on rows and classes.

    Raises:
        ImportError: without scikit-learn.
    """
    try:
        from sklearn.tree import DecisionTreeClassifier
    except ImportError as error:
        raise ImportError("the extraction warning needs scikit-learn: pip install 'pp-jax[detection]'") from error
    tree = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(rows, classes)
    leaves = tree.apply(validation)
    rest = sum(_entropy(labels[leaves == leaf]) * np.mean(leaves == leaf) for leaf in np.unique(leaves))
    return float(_entropy(labels) - rest)


def _entropy(labels: np.ndarray) -> float:
    """In bits."""
    shares = np.bincount(labels) / len(labels)
    shares = shares[shares > 0]
    return float(-np.sum(shares * np.log2(shares)))
