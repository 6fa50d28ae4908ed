"""Thieves who choose what they ask about, in search of queries that a defense takes for genuine and answers truly."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from thieves import trusting

if TYPE_CHECKING:
    from steal import Config
    from thieves.theft import Scene


def pool(config: Config, at: Scene) -> Any:
    """Images that the thief asks about: any of its pool, or what passes a gate that it has, filled up with others."""
    import jax
    import numpy as np

    if config.attack.labels != "passing":
        return at.pool.images
    order = np.asarray(jax.random.permutation(jax.random.fold_in(at.attack_key, 5), len(at.pool)))
    first = np.argsort(trusting.strange(at, at.pool.images)[order], kind="stable")
    return at.pool.images[order[first[: config.attack.budget]]]


class State(NamedTuple):
    """What a seeking thief knows.

    Attributes:
        key: randomness of its substitute's training.
        pool: all images, (N, H, W, C).
        order: rows of the pool, in the order in which they are asked about.
        images: asked about so far.
        answers: to them.
    """

    key: Any
    pool: Any
    order: Any
    images: tuple[Any, ...] = ()
    answers: tuple[Any, ...] = ()

    @property
    def spent(self) -> int:
        """Images asked about."""
        return sum(map(len, self.answers))


@dataclasses.dataclass(frozen=True)
class Seeking:
    """Ask half at random, and then what a model of the answers is surest of.

    A gate spares what resembles the victim's own data, and so does certainty: where answers contradict each other, as
    those that a coin has exchanged, a model that fits them is in doubt.

    Attributes:
        network: of the substitute.
        recipe: of its training.
        budget: of the attack.
        batch_size: images per `ask`.
    """

    network: Any
    recipe: Any
    budget: int
    batch_size: int = 500

    def capacity(self, pool_size: int) -> float:
        """As many questions as there are images."""
        return pool_size

    def init(self, key: Any, pool: Any) -> State:
        """Draw the order of the first half."""
        import jax
        import numpy as np

        order, training = jax.random.split(key)
        return State(training, pool, np.asarray(jax.random.permutation(order, len(pool))))

    def ask(self, state: State) -> Any:
        """The next images, (B, H, W, C); none beyond the half before its answers are there."""
        half = self.budget // 2
        end = half if state.spent < half else len(state.pool)
        return state.pool[state.order[state.spent : min(end, state.spent + self.batch_size)]]

    def tell(self, state: State, images: Any, answers: Any) -> State:
        """Keep the answers; after the first half, turn to what a model of them is surest of."""
        told = state._replace(images=(*state.images, images), answers=(*state.answers, answers))
        turns = state.spent < self.budget // 2 <= told.spent
        return told._replace(order=self._by_certainty(told)) if turns else told

    def _by_certainty(self, state: State) -> Any:
        """What was asked about, and then the rest of the pool by the substitute's largest probability."""
        import numpy as np

        from pp_jax import metrics, training

        learnt = training.fit(
            state.key, self.network, np.concatenate(state.images), np.concatenate(state.answers), self.recipe
        )
        asked, rest = state.order[: state.spent], np.sort(state.order[state.spent :])
        certainty = metrics.predict(self.network, learnt, state.pool[rest]).max(axis=1)
        return np.concatenate([asked, rest[np.argsort(-certainty, kind="stable")]])
