"""The driver joins an attack to a prediction API and owns the query budget."""

import contextlib
import os
from collections.abc import Callable
from typing import Any

import jax

from pp_jax._checks import as_pixels, check_random_key
from pp_jax.attacks.spending import Ledger, keeping
from pp_jax.serving import journal
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
    folder: str | os.PathLike[str] | None = None,
    so_far: TransferSet | None = None,
) -> TransferSet:
    """Spend the whole budget: ask, answer, tell, until `budget` images have been answered.

    Formal guarantees: no answer is lost to whatever ends this call, and none is paid for twice: the call that goes on
    asks the API only about images without an answer, and ends as one that nothing happened to, bit for bit on the same
    machine, if the API answers alike. The attack is told again what was answered before, so it trains again what it
    trains along the way.

    The budget counts images with an answer. A batch that is under way when the API fails is counted as spent, in
    `QueriesFailed.spent` and in the folder, and is asked about again by the call that goes on; where not even these may
    go beyond a number, give the API as `Metered(api, number)`. An API that works a batch off in parts, and fails in
    the midst of it, raises `serving.answers.PartlyAnswered`: what it has is kept.

    Args:
        key: randomness of the attack.
        attack: a query strategy, `capacity`, `init`, `ask`, `tell`.
        pool: the attacker's public images, (N, H, W, C), enough of them for the budget by the attack's `capacity`.
        api: images in, answers out: a local black box (`BlackBox(...).api()`), a remote one, or recorded answers
            (`serving.recorded.Recorded`). Answers are numbers in [0, 1], (B, K), or class indices, (B,).
        budget: the number of queries, at least 1; one image is one query.
        progress: called with the number of queries answered in each round.
        folder: keeps every answer as soon as it is there, in a folder of its own in it, `pp_jax-answers`; made when
            missing. A call with a folder goes on from what it holds, whatever ended the last one, a kill included; give
            every API and attack its own. What else is in it is neither read nor removed.
        so_far: what the same call had collected before it failed (`QueriesFailed.transfer`): goes on from there.

    Returns:
        The transfer set of exactly `budget` images and responses, on the host.

    Raises:
        ValueError: for a budget below 1, a pool too small for it or with pixels out of range, a seed in place of a key,
            a folder whose place is taken, or where what was answered before are other queries than those of this
            attack; the API is not asked then.
        QueriesFailed: a ValueError with `transfer` and `spent`: if the API raises an exception, or returns None, too
            few or too many responses, or what is no probability, such as NaN or logits; if the attack fails or has no
            more questions.
        QueriesStopped: a KeyboardInterrupt with the same.
    """
    check_random_key(key)
    pool = as_pixels(pool, "pool")
    Metered(api, budget)  # a bad budget is refused before the folder is touched
    if attack.capacity(len(pool)) < budget:
        raise ValueError(
            f"the pool must be good for the budget of {budget} queries, but it holds {len(pool)} images, "
            f"good for {attack.capacity(len(pool))}"
        )
    with contextlib.nullcontext() if folder is None else journal.opened(folder) as kept:
        state = attack.init(key, pool)
        ledger = Ledger(api, budget, pool[0], so_far, kept)
        with keeping(ledger, folder):
            while ledger.left:
                images = attack.ask(state)[: ledger.left]
                if len(images) == 0:
                    raise ValueError(f"the attack ran out of questions after {ledger.queries} of {budget} queries")
                answers = ledger(images)
                state = attack.tell(state, images, answers)
                if progress is not None:
                    progress(len(images))
        return ledger.transfer
