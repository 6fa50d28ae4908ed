"""Queries in search of what a defense responds to truly: half at random, then what a model of the responses knows."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from pp_jax._checks import check_count, check_random_key
from pp_jax.training import Recipe, fit
from pp_jax.training.losses import supervised_by
from pp_jax.training.predicting import predict


class SeekingState(NamedTuple):
    """What the attacker knows.

    Attributes:
        key: randomness of its substitute's training.
        pool: all images, (N, H, W, C).
        order: rows of the pool, in the order in which they are queried.
        images: queried so far, in parts.
        answers: the responses, in the same parts.
    """

    key: jax.Array
    pool: Any
    order: np.ndarray
    images: tuple[Any, ...] = ()
    answers: tuple[Any, ...] = ()

    @property
    def spent(self) -> int:
        """Images queried."""
        return sum(map(len, self.answers))


@dataclasses.dataclass(frozen=True)
class Seeking:
    """Query half of the budget at random, and then what a model of the responses is most certain of.

    An OOD detector spares what resembles the victim's own data, and so does certainty: where responses contradict each
    other, as those with randomly exchanged classes do, a model that fits them is in doubt.

    Attributes:
        network: of the substitute.
        recipe: of its training.
        budget: of the attack.
        batch_size: images per `ask`.

    Raises:
        ValueError: for a budget below 2 or a batch size below 1.
    """

    network: Any
    recipe: Recipe
    budget: int
    batch_size: int = 500

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_count("budget", self.budget, low=2)
        check_count("batch_size", self.batch_size, low=1)

    def capacity(self, pool_size: int) -> float:
        """As many queries as there are images."""
        return pool_size

    def init(self, key: jax.Array, pool: Any) -> SeekingState:
        """Draw the order of the first half."""
        check_random_key(key)
        order_key, train_key = jax.random.split(key)
        return SeekingState(train_key, pool, np.asarray(jax.random.permutation(order_key, len(pool))))

    def ask(self, state: SeekingState) -> Any:
        """The next images, (B, H, W, C); none beyond the first half before its responses are there."""
        half = self.budget // 2
        end = half if state.spent < half else len(state.pool)
        return state.pool[state.order[state.spent : min(end, state.spent + self.batch_size)]]

    def tell(self, state: SeekingState, images: Any, answers: Any) -> SeekingState:
        """Keep the responses; after the first half, turn to what a model of them is most certain of."""
        told = state._replace(images=(*state.images, images), answers=(*state.answers, answers))
        turns = state.spent < self.budget // 2 <= told.spent
        return told._replace(order=self._by_certainty(told)) if turns else told

    def _by_certainty(self, state: SeekingState) -> np.ndarray:
        """What was queried, and then the rest of the pool by the substitute's largest probability."""
        images, answers = np.concatenate(state.images), np.concatenate(state.answers)
        params = fit(state.key, self.network, images, answers, self.recipe, loss=supervised_by(answers))
        queried, rest = state.order[: state.spent], np.sort(state.order[state.spent :])
        certainty = predict(self.network, params, state.pool[rest]).max(axis=1)
        return np.concatenate([queried, rest[np.argsort(-certainty, kind="stable")]])
