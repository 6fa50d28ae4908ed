"""How a budget is split over the rounds of an attack, and how an attacker's substitute is trained between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from pp_jax._checks import check_count
from pp_jax.training import Best, Loss, Recipe, Sets, WrappingLoss, fit, fit_many
from pp_jax.training.losses import supervised_by
from pp_jax.types import Params

Strategy = TypeVar("Strategy")


def check_share(name: str, value: float) -> None:
    """Refuse a share outside [0, 1).

    Raises:
        ValueError: naming it.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}: must be at least 0 and below 1")


def split(budget: int, rounds: int, seed_share: float, validation_share: float = 0.0) -> tuple[int, ...]:
    """Queries that are made by the end of the seed and of each round, (1 + rounds,); the last is the budget.

    The first stage holds `validation_share` and `seed_share` of the budget, at least one query of each that is not 0;
    the rounds share the rest as evenly as whole numbers do.

    Raises:
        ValueError: for a budget that leaves a round without a query.
    """
    check_count("budget", budget, low=1)
    first = held_out(budget, validation_share) + max(1, round(seed_share * budget))
    if budget - first < rounds:
        raise ValueError(
            f"budget is {budget}: must be larger for {rounds} rounds, as the first {first} queries come before them; "
            "give fewer rounds or smaller shares"
        )
    return tuple(int(end) for end in np.linspace(first, budget, rounds + 1).round())


def held_out(budget: int, share: float) -> int:
    """Responses that are not trained on but choose the epoch: the first ones."""
    return max(1, round(share * budget)) if share else 0


def filled(strategy: Strategy, **given: Any) -> Strategy:
    """The same strategy, a dataclass, with these for its parts that are None."""
    missing = {name: value for name, value in given.items() if getattr(strategy, name) is None}
    return dataclasses.replace(strategy, **missing)  # type: ignore[type-var]


def check_complete(strategy: Any, names: Sequence[str] = ("network", "recipe", "budget")) -> None:
    """Refuse a strategy that lacks what its `completed` fills in.

    Raises:
        ValueError: naming the part.
    """
    for name in names:
        if getattr(strategy, name) is None:
            kind = type(strategy).__name__
            raise ValueError(
                f"{name} is None: must be given, {kind}({name}=…); `evaluate` alone fills in the attacker's"
            )


def substitutes(
    key: jax.Array,
    network: Any,
    images: np.ndarray,
    answers: np.ndarray,
    recipe: Recipe,
    *,
    members: int = 1,
    validation: int = 0,
    loss: Loss | None = None,
    unlabelled: Any = None,
) -> tuple[Any, tuple[Params, ...]]:
    """Train a fresh substitute on all responses, or a committee of several as one program.

    Args:
        key: randomness of the training.
        network: the architecture.
        images: queried, (n, H, W, C).
        answers: the responses, (n, K), or class indices, (n,).
        recipe: of the training.
        members: how many networks.
        validation: so many of the first responses choose the epoch instead; for a single network.
        loss: what is minimised; soft cross-entropy by default.
        unlabelled: images without responses, for a loss that takes some.

    Returns:
        The network, as the loss has wrapped it, and the parameters of each member.
    """
    if loss is None:
        loss = supervised_by(answers)
    if isinstance(loss, WrappingLoss):
        network = loss.around(network)
    if members > 1:
        rows = np.broadcast_to(np.arange(len(images)), (members, len(images)))
        targets = np.broadcast_to(answers, (members, *answers.shape))
        stacked = fit_many(jax.random.split(key, members), network, Sets(images, rows, targets), recipe, loss=loss)
        return network, tuple(jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(members))
    best = Best(network, images[:validation], answers[:validation]) if validation else None
    pairs = network, images[validation:], answers[validation:], recipe
    params = fit(key, *pairs, loss=loss, unlabelled=unlabelled, on_epoch=best)
    # Where training diverged no epoch was ever the best.
    return network, (params if best is None or best.params is None else best.params,)
