"""Feature vectors as queries: what the attacks of this package ask an API, and what they must hear."""

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from pp_jax._checks import check_count, check_random_key
from pp_jax.attacks.spending import Ledger, keeping
from pp_jax.serving.blackbox import API
from pp_jax.types import TransferSet


@runtime_checkable
class LabelAPI(Protocol):
    """An API that says, before it is asked, whether it responds with class indices alone."""

    @property
    def labels_only(self) -> bool:
        """Whether responses are class indices, (B,), and never posteriors."""


def generator(key: jax.Array) -> np.random.Generator:
    """Return NumPy's random numbers of a key: shapes that change from query to query compile nothing.

    Raises:
        ValueError: for what is no key.
    """
    check_random_key(key)
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())


class Questions:
    """An API under a budget, asked about feature vectors: x ∈ [0, 1]^d travels as an image (1, 1, d).

    The first query is made alone: an API whose responses are of no use is found out at the price of one.

    Args:
        ledger: the API with its budget.
        features: d.
        dtype: of the queries.
    """

    def __init__(self, ledger: Ledger, features: int, dtype: Any) -> None:
        self._ledger, self._features, self._dtype = ledger, features, dtype

    @property
    def spent(self) -> int:
        """Queries so far."""
        return self._ledger.queries

    @property
    def left(self) -> int:
        """Queries that remain."""
        return self._ledger.left

    def posteriors(self, rows: Any) -> np.ndarray:
        """The responses to feature vectors (n, d), (n, K) in float64.

        Raises:
            ValueError: for class indices in place of posteriors.
        """
        answers = self._ask(rows, wants_posteriors=True)
        return answers.astype(np.float64)

    def labels(self, rows: Any) -> np.ndarray:
        """The classes of feature vectors (n, d), (n,): the responses themselves, or the argmax of posteriors."""
        answers = self._ask(rows, wants_posteriors=False)
        return np.argmax(answers, axis=1) if answers.ndim == 2 else answers.astype(int)

    def _ask(self, rows: Any, *, wants_posteriors: bool) -> np.ndarray:
        """The API's responses, the very first one by itself."""
        images = np.asarray(rows, self._dtype).reshape(-1, 1, 1, self._features)
        parts = [images[:1], images[1:]] if self._ledger.queries == 0 else [images]
        answers: list[np.ndarray] = []
        for part in parts:
            if len(part) or not answers:
                answers.append(self._ledger(part))
                if wants_posteriors and answers[-1].ndim != 2:
                    raise ValueError(_LABELS)
        return np.concatenate(answers)


_LABELS = (
    "the API responds with class indices, but this attack needs posteriors, (B, K); learn_linear and learn_tree do "
    "with labels"
)


@contextlib.contextmanager
def asking(
    api: API,
    features: int,
    *,
    budget: int,
    posteriors: bool,
    so_far: TransferSet | None = None,
    dtype: Any = np.float64,
) -> Iterator[Questions]:
    """Spend a budget on an API; whatever ends it, what was answered is kept in the error.

    Args:
        api: images (B, 1, 1, d) in, posteriors (B, K) or class indices (B,) out.
        features: d.
        budget: queries, at most.
        posteriors: whether class indices are not enough.
        so_far: what the same attack was answered before it failed.
        dtype: of the queries.

    Yields:
        The API, to be asked.

    Raises:
        ValueError: for a count below 1, or an API that says that it responds with labels where posteriors are needed;
            nothing is asked then.
        QueriesFailed: for what goes wrong later, the end of the budget included.
    """
    check_count("features", features, low=1)
    check_count("the query budget", budget, low=1)
    if posteriors and isinstance(api, LabelAPI) and api.labels_only:
        raise ValueError(_LABELS)
    ledger = Ledger(api, budget, np.zeros((1, 1, features), dtype), so_far, None)
    with keeping(ledger, None):
        yield Questions(ledger, features, dtype)
