"""Active learning of the victim: rounds of queries that a substitute chooses, trained anew on all responses so far."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from pp_jax._checks import check_count, check_random_key
from pp_jax.attacks.acquisition import Acquisition, Entropy, Known, RareClasses
from pp_jax.attacks.stages import check_complete, check_share, filled, held_out, split, substitutes
from pp_jax.training import Contrastive, Loss, Recipe
from pp_jax.training.adapting import Featured


class ActiveState(NamedTuple):
    """What the attacker knows.

    Attributes:
        key: randomness of the rounds to come.
        pool: all images, (N, H, W, C).
        order: rows of the pool: those queried, those of this round, and the rest.
        ends: queries that are made by the end of the seed and of each round.
        images: queried so far, in parts.
        answers: the responses, in the same parts.
    """

    key: jax.Array
    pool: Any
    order: np.ndarray
    ends: tuple[int, ...]
    images: tuple[Any, ...] = ()
    answers: tuple[Any, ...] = ()

    @property
    def spent(self) -> int:
        """Images queried."""
        return sum(map(len, self.answers))

    @property
    def end(self) -> int:
        """Queries that are made by the end of this round."""
        return next((end for end in self.ends if end > self.spent), self.ends[-1])


@dataclasses.dataclass(frozen=True)
class ActiveThief:
    """Query a random seed, then in rounds what an acquisition chooses by a substitute trained on all responses so far.

    Of a budget B, `validation_share`·B random queries are never trained on and choose the epoch of every substitute,
    `seed_share`·B random ones come with them, and the rest are split evenly over `rounds`. In each the substitute is
    trained from fresh parameters. Responses may be posteriors or class indices; the published attack takes labels.

    With `members` above 1 the substitute is a committee that is trained as one program (`training.fit_many`) and judges
    by its mean posterior; its epochs are not chosen, so `validation_share` must be 0.

    Published (`ActiveThief`): Adam at 1e-3, batch 150, at most 1000 epochs with a patience of 100, L2 1e-3, dropout.

    Source: Pal, Gupta, Shukla, Kanade, Shevade, Ganapathy, AAAI 2020, and "A framework for the extraction of deep
        neural networks by leveraging public data", 2019; of the committee `army_of_thieves`.

    Attributes:
        acquisition: the rule of choice: `Entropy`, `KCenter`, `DFAL`, `DFALKCenter`, `RareClasses`.
        network: the substitute's architecture; None where `evaluate` fills in the attacker's, as the next two.
        recipe: of its training.
        budget: of the attack.
        seed_share: of the budget, random queries that come first.
        validation_share: of the budget, random queries that choose the epoch.
        rounds: after the seed.
        members: networks of the committee.
        considered: images of the pool that are looked at in a round, drawn anew; all that were not queried by default.
        loss: of the substitute; soft cross-entropy by default. One that learns from unlabelled images is given the
            pool.
        batch_size: images per `ask`.

    Raises:
        ValueError: for a number out of range, a budget too small for the rounds, a committee with validation or with a
            loss that takes unlabelled images; by `init`, for parts that are None, a pool smaller than the budget, or a
            network without the features that the acquisition needs.
    """

    acquisition: Acquisition = Entropy()  # noqa: RUF009
    network: Any = None
    recipe: Recipe | None = None
    budget: int | None = None
    _: dataclasses.KW_ONLY
    seed_share: float = 0.1
    validation_share: float = 0.2
    rounds: int = 10
    members: int = 1
    considered: int | None = None
    loss: Loss | None = None
    batch_size: int = 500

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("rounds", "members", "batch_size"):
            check_count(name, getattr(self, name), low=1)
        for name in ("seed_share", "validation_share"):
            check_share(name, getattr(self, name))
        if self.considered is not None:
            check_count("considered", self.considered, low=1)
        if self.members > 1 and (self.validation_share or self.loss is not None):
            raise ValueError(f"members is {self.members}: must be 1 with a validation_share or a loss; give 0 and None")
        if self.budget is not None:
            self._ends(self.budget)

    def completed(self, *, network: Any = None, recipe: Recipe | None = None, budget: int | None = None) -> ActiveThief:
        """The same with the attacker's network, recipe and budget for those that are None."""
        return filled(self, network=network, recipe=recipe, budget=budget)

    def capacity(self, pool_size: int) -> float:
        """As many queries as there are images, and no more than the budget that was split."""
        return pool_size if self.budget is None else min(pool_size, self.budget)

    def init(self, key: jax.Array, pool: Any) -> ActiveState:
        """Draw the order of validation and seed."""
        check_random_key(key)
        check_complete(self)
        assert self.budget is not None
        if len(pool) < self.budget:
            raise ValueError(f"the pool must hold {self.budget} images, as many as the budget, not {len(pool)}")
        if self.acquisition.needs_features and not isinstance(self.network, Featured):
            rule, kind = type(self.acquisition).__name__, type(self.network).__name__
            raise ValueError(f"{rule} needs a network with features(params, image), which {kind} has not")
        order_key, key = jax.random.split(key)
        order = np.asarray(jax.random.permutation(order_key, len(pool)))
        return ActiveState(key, pool, order, self._ends(self.budget))

    def ask(self, state: ActiveState) -> Any:
        """The next images of the round, (B, H, W, C)."""
        return state.pool[state.order[state.spent : min(state.end, state.spent + self.batch_size)]]

    def tell(self, state: ActiveState, images: Any, answers: Any) -> ActiveState:
        """Keep the responses; after the last of a round, choose those of the next."""
        told = state._replace(images=(*state.images, images), answers=(*state.answers, answers))
        return told._replace(order=self._chosen(told)) if told.spent in state.ends[:-1] else told

    def _chosen(self, state: ActiveState) -> np.ndarray:
        """What was queried, what the acquisition chooses, and the rest of the pool."""
        assert self.budget is not None
        assert self.recipe is not None
        images, answers = np.concatenate(state.images), np.concatenate(state.answers)
        train_key, draw_key, rule_key = jax.random.split(jax.random.fold_in(state.key, state.spent), 3)
        network, members = substitutes(
            train_key, self.network, images, answers, self.recipe, members=self.members,
            validation=held_out(self.budget, self.validation_share), loss=self.loss,
            unlabelled=None if self.loss is None else state.pool,
        )  # fmt: skip
        queried, rest = state.order[: state.spent], np.sort(state.order[state.spent :])
        count = state.end - state.spent
        if self.considered is not None and self.considered < len(rest):
            drawn = np.asarray(jax.random.permutation(draw_key, len(rest)))[: max(self.considered, count)]
            rest = np.concatenate([rest[np.sort(drawn)], rest[np.setdiff1d(np.arange(len(rest)), drawn)]])
            looked_at = rest[: len(drawn)]
        else:
            looked_at = rest
        known = Known(network, members, images, answers, self.budget)
        chosen = looked_at[self.acquisition(rule_key, known, state.pool[looked_at], count)]
        return np.concatenate([queried, chosen, rest[~np.isin(rest, chosen)]])

    def _ends(self, budget: int) -> tuple[int, ...]:
        """The split of the budget."""
        return split(budget, self.rounds, self.seed_share, self.validation_share)


def army_of_thieves(
    *, network: Any = None, recipe: Recipe | None = None, budget: int | None = None, members: int = 5, **options: Any
) -> ActiveThief:
    """Army of Thieves: the consensus entropy of five networks chooses, in a seed and nine rounds of a tenth each.

    Published with five *different* architectures, whose mean posterior is also the stolen model; here they are five
    initialisations of one, trained as one program, and choose queries alone: a single network is stolen.

    Args:
        network: of each member; None where `evaluate` fills in the attacker's, as the next two.
        recipe: of the training.
        budget: of the attack.
        members: networks.
        **options: of `ActiveThief`.

    Source: Jindal et al., "Army of Thieves", WACV 2024; ten cycles as in the released code.
    """
    settings: dict[str, Any] = {"validation_share": 0.0, "rounds": 9, **options}
    return ActiveThief(Entropy(), network, recipe, budget, members=members, **settings)


def swift_thief(
    *,
    network: Any = None,
    recipe: Recipe | None = None,
    budget: int | None = None,
    loss: Contrastive = Contrastive(),  # noqa: B008
    **options: Any,
) -> ActiveThief:
    """SwiftThief: contrastive learning on all images of the pool, and queries of uncertain, then of rare, classes.

    A seed and nine rounds of a tenth of the budget each. Published training alternates 40 epochs of contrastive with 50
    of supervised learning and keeps the network from round to round; here every substitute is fresh and minimises the
    sum of the losses. The published regulariser (FGSM, ε = 0.01, weight 0.01) is left out.

    Args:
        network: one with `features` and `train_features`, as those of `pp_jax.models`; None where `evaluate` fills in
            the attacker's, as the next two.
        recipe: of the training.
        budget: of the attack.
        loss: the sum of supervised and contrastive losses; train the stolen model with it too.
        **options: of `ActiveThief`.

    Source: Lee, Han, Lee, "SwiftThief", IJCAI 2024.
    """
    settings: dict[str, Any] = {"validation_share": 0.0, "rounds": 9, **options}
    return ActiveThief(RareClasses(), network, recipe, budget, loss=loss, **settings)
