"""Black-box Dissector (Wang et al., ECCV 2022): queries with the part erased that the victim's label rests on."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import as_pixels, check_count, check_random_key
from pp_jax.attacks.gradcam import attention, check_spatial
from pp_jax.attacks.stages import check_complete, check_share, filled, split, substitutes
from pp_jax.geometry.posteriors import posterior
from pp_jax.training import Recipe
from pp_jax.training.erasing import erase
from pp_jax.types import Params

_BATCH = 64


class DissectorState(NamedTuple):
    """What the attacker knows.

    Attributes:
        key: randomness of the rounds to come.
        pool: all images, (N, H, W, C).
        order: rows of the pool, in the order in which they are queried.
        ends: queries that are made by the end of the seed and of each round.
        used: images of the pool that were queried.
        round: what is queried in this round, (n, H, W, C): images of the pool, then erased ones.
        position: how many of these were answered.
        whole: of every query so far, whether it is an image of the pool that has not been erased yet.
        images: queried so far, in parts.
        answers: the responses, in the same parts.
    """

    key: jax.Array
    pool: Any
    order: np.ndarray
    ends: tuple[int, ...]
    used: int
    round: Any
    position: int
    whole: np.ndarray
    images: tuple[Any, ...] = ()
    answers: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Dissector:
    """Query images of the pool at random, and copies of earlier ones without what their label rests on.

    After every round a fresh substitute f is trained on the hard labels ŷ of all responses. Of each image that was not
    erased before, `variants` copies are made by `training.erasing.erase`, centred where Grad-CAM of f sees ŷ; kept is
    Π(x) = the copy with the smallest f_ŷ. `erased_share` of the next round are the Π(x) of the largest max_k f_k: a
    label that changes tells what the image also resembles, which a label alone does not. The rest are new images.

    Made for APIs that respond with labels; of posteriors it takes the argmax, the attacker decides what it trains on.
    Pair it with `recovery.HardLabel` and `training.SelfDistillation`, the other half of the published attack.

    Attributes:
        network: the substitute's architecture, with a convolution and `tapped`, as those of `pp_jax.models`; None where
            `evaluate` fills in the attacker's, as the next two.
        recipe: of its training.
        budget: of the attack.
        seed_share: of the budget, random queries that come first.
        rounds: after the seed.
        erased_share: of every round, in [0, 1).
        variants: erased copies of an image from which one is kept.
        batch_size: images per `ask`.

    Raises:
        ValueError: for a number out of range, or a budget too small for the rounds; by `init`, for parts that are None,
            a pool that holds too few images, or a network without a convolution.

    Source: Wang et al., "Black-box Dissector: towards erasing-based hard-label model stealing attack", ECCV 2022:
        N = 10, a quarter of the queries erased, erased areas and aspects as in random erasing; budgets there grow from
        100 to 30 000 in uneven rounds. The colour of what is erased is assumed: the image's mean.
    """

    network: Any = None
    recipe: Recipe | None = None
    budget: int | None = None
    _: dataclasses.KW_ONLY
    seed_share: float = 0.1
    rounds: int = 9
    erased_share: float = 0.25
    variants: int = 10
    batch_size: int = 500

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("rounds", "variants", "batch_size"):
            check_count(name, getattr(self, name), low=1)
        for name in ("seed_share", "erased_share"):
            check_share(name, getattr(self, name))
        if self.budget is not None:
            split(self.budget, self.rounds, self.seed_share)

    def completed(self, *, network: Any = None, recipe: Recipe | None = None, budget: int | None = None) -> Dissector:
        """The same with the attacker's network, recipe and budget for those that are None."""
        return filled(self, network=network, recipe=recipe, budget=budget)

    def capacity(self, pool_size: int) -> float:
        """The budget, if the pool holds the images that are queried whole; else as many as it holds."""
        if self.budget is None:
            return pool_size
        return self.budget if pool_size >= self._originals() else min(pool_size, self.budget)

    def init(self, key: jax.Array, pool: Any) -> DissectorState:
        """Draw the order of the pool."""
        check_random_key(key)
        check_complete(self)
        pool = as_pixels(pool, "pool")
        assert self.budget is not None
        if len(pool) < self._originals():
            raise ValueError(
                f"the pool must hold at least {self._originals()} images for a budget of {self.budget}, not {len(pool)}"
            )
        check_spatial(self.network, pool[0])
        order_key, key = jax.random.split(key)
        order = np.asarray(jax.random.permutation(order_key, len(pool)))
        ends = split(self.budget, self.rounds, self.seed_share)
        seed = pool[order[: ends[0]]]
        return DissectorState(key, pool, order, ends, len(seed), seed, 0, np.ones(len(seed), bool))

    def ask(self, state: DissectorState) -> Any:
        """The next images of the round, (B, H, W, C)."""
        return state.round[state.position : state.position + self.batch_size]

    def tell(self, state: DissectorState, images: Any, answers: Any) -> DissectorState:
        """Keep the responses; after the last of a round, prepare the next."""
        told = state._replace(
            position=state.position + len(answers),
            images=(*state.images, images),
            answers=(*state.answers, answers),
        )
        spent = sum(map(len, told.answers))
        return self._advanced(told, spent) if spent in state.ends[:-1] else told

    def _advanced(self, state: DissectorState, spent: int) -> DissectorState:
        """The state at the beginning of the next round."""
        assert self.recipe is not None
        images, answers = np.concatenate(state.images), np.concatenate(state.answers)
        labels = answers if answers.ndim == 1 else answers.argmax(axis=1)
        train_key, erase_key = jax.random.split(jax.random.fold_in(state.key, spent))
        erased, fresh = self._plan()[state.ends.index(spent)]
        sources, copies = np.flatnonzero(state.whole), images[:0]
        if erased:
            _, (params,) = substitutes(train_key, self.network, images, labels, self.recipe)
            copies, confidence = self._copies(erase_key, params, images[sources], labels[sources])
            best = np.argsort(-confidence, kind="stable")[:erased]
            sources, copies = sources[best], copies[best]
        whole = np.concatenate([state.whole, np.ones(fresh, bool), np.zeros(len(copies), bool)])
        if erased:
            whole[sources] = False
        new = state.pool[state.order[state.used : state.used + fresh]]
        return state._replace(
            used=state.used + fresh, round=np.concatenate([new, copies]), position=0, whole=whole, images=(images,),
            answers=(answers,),
        )  # fmt: skip

    def _copies(self, key: jax.Array, params: Params, images: np.ndarray, labels: np.ndarray) -> tuple[Any, np.ndarray]:
        """Π(x) of every image, and its largest probability."""
        kept: list[np.ndarray] = []
        confidence: list[np.ndarray] = []
        for first in range(0, len(images), _BATCH):
            index = np.minimum(np.arange(first, first + _BATCH), len(images) - 1)
            part = _erased(key, index, params, images[index], labels[index], network=self.network, count=self.variants)
            for parts, found in zip((kept, confidence), part, strict=True):
                parts.append(np.asarray(found)[: len(images) - first])
        return np.concatenate(kept), np.concatenate(confidence)

    def _plan(self) -> list[tuple[int, int]]:
        """Erased and new images of every round; no image is erased twice."""
        assert self.budget is not None
        ends = split(self.budget, self.rounds, self.seed_share)
        whole, plan = ends[0], []
        for count in np.diff(ends).tolist():
            erased = min(int(self.erased_share * count), whole)
            plan.append((erased, count - erased))
            whole += count - 2 * erased
        return plan

    def _originals(self) -> int:
        """Images of the pool that the budget needs."""
        assert self.budget is not None
        return split(self.budget, self.rounds, self.seed_share)[0] + sum(fresh for _, fresh in self._plan())


def _erased_batch(
    key: jax.Array, index: jax.Array, params: Params, images: jax.Array, labels: jax.Array, *, network: Any, count: int
) -> tuple[jax.Array, jax.Array]:
    """Π(x) of a batch, (B, H, W, C), and its largest probability, (B,)."""

    def one(place: jax.Array, image: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        seen = attention(network, params, image, label)
        keys = jax.random.split(jax.random.fold_in(key, place), count)
        copies = jax.vmap(lambda own: erase(own, image, seen))(keys)
        probs = jax.vmap(lambda copy: posterior(network, params, copy))(copies)
        least = jnp.argmin(probs[:, label])
        return copies[least], probs[least].max()

    return jax.vmap(one)(index, images, labels)


_erased = jax.jit(_erased_batch, static_argnames=("network", "count"))
