"""How many benign accounts a policy treats as suspects."""

from typing import Any

import jax
import numpy as np

from pp_jax._checks import name_of
from pp_jax.detection.benign import HABITS, Habit
from pp_jax.detection.policy import Policy
from pp_jax.detection.watching import observe, watch

QUERIES = 1000


def accused(
    key: jax.Array,
    policy: Policy,
    network: Any,
    images: Any,
    labels: Any,
    *,
    accounts: int = 100,
    habits: tuple[Habit, ...] = HABITS,
) -> dict[str, float]:
    """The share of benign accounts of each kind that ever leave the mildest band.

    They have as many queries as the accounts that the thresholds were set on; where that is not known, 1000.

    Args:
        key: randomness of the accounts.
        policy: with at least one threshold, or it accuses nobody.
        network: the victim, `network(params, image) -> (K,)` with `network.features`; its parameters are the policy's.
        images: of the victim's distribution, (N, H, W, C).
        labels: their classes, (N,).
        accounts: of each kind.
        habits: the kinds.

    Returns:
        Shares in [0, 1], by the name of the habit.
    """
    limits = np.asarray(policy.thresholds)
    if not len(limits):
        return {name_of(habit): 0.0 for habit in habits}
    seen = observe(network, policy.params, images)
    queries = policy.account_queries or QUERIES
    found = {}
    for number, habit in enumerate(habits):
        streams = habit(jax.random.fold_in(key, number), labels, accounts, queries)
        scores = watch(policy.detector, seen, streams)
        found[name_of(habit)] = float((scores.max(axis=1) > limits[0]).mean())
    return found
