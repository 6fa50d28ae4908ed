"""The driver joins an attack to a prediction API and owns the query budget."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from pp_jax._checks import as_pixels, as_responses, check_random_key
from pp_jax.serving.blackbox import API, Metered
from pp_jax.types import QueryStrategy, TransferSet


def collect(
    key: jax.Array,
    attack: QueryStrategy[Any],
    pool: Any,
    api: API,
    *,
    budget: int,
    progress: Callable[[int], None] | None = None,
) -> TransferSet:
    """Spend the whole budget: ask, answer, tell, until `budget` images have been answered.

    Args:
        key: randomness of the attack.
        attack: a query strategy, `capacity`, `init`, `ask`, `tell`.
        pool: the attacker's public images, (N, H, W, C), enough of them for the budget by the attack's `capacity`.
        api: images in, answers out: a local black box (`BlackBox(...).api()`) or a remote one.
        budget: the number of queries, at least 1; one image is one query.
        progress: called with the number of queries answered in each round.

    Returns:
        The transfer set of exactly `budget` images and responses, on the host.

    Raises:
        ValueError: for a budget below 1, a pool too small for it or with pixels out of range, or a seed in place of a
            key (before anything is asked); if the attack has no more questions, or the API returns another number of
            responses than it was asked for, or something else than rows of numbers. Their values are not judged here:
            they were paid for, and `fit` says what is wrong with them.
    """
    check_random_key(key)
    pool, meter = as_pixels(pool, "pool"), Metered(api, budget)
    if attack.capacity(len(pool)) < budget:
        raise ValueError(
            f"the pool must be good for the budget of {budget} queries, but it holds {len(pool)} images, "
            f"good for {attack.capacity(len(pool))}"
        )
    state = attack.init(key, pool)
    asked, told = [], []
    while meter.left:
        images = attack.ask(state)[: meter.left]
        if len(images) == 0:
            raise ValueError(f"the attack ran out of questions after {meter.spent} of {budget} queries")
        answers = as_responses(meter(images), len(images))
        state = attack.tell(state, images, answers)
        asked.append(np.asarray(images))
        told.append(answers)
        if progress is not None:
            progress(len(images))
    return TransferSet(np.concatenate(asked), np.concatenate(told))
