"""Like compared with like: the strength at which a defense costs its defender a given amount."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import as_labels, check_alike, check_count, check_defense, check_posteriors, remembers
from pp_jax.geometry.distance import L1
from pp_jax.serving.perturbation import perturb, perturb_sequence
from pp_jax.types import Defense, StatefulDefense

Cost = Callable[[jax.Array, jax.Array], jax.Array]
"""`cost(probs, answers) -> scalar`: what the responses (N, K) to clean posteriors (N, K) cost their defender."""


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """The strongest setting of a family that stays within a budget.

    Attributes:
        defense: that setting.
        strength: its parameter.
        cost: what it costs on the held-out queries.
        target: what it may cost.
        met: whether it comes within `tolerance` of the target; a family may be unable to cost that much, or jump over
            it.
    """

    defense: Defense | StatefulDefense[Any]
    strength: float
    cost: float
    target: float
    met: bool


def mean_l1(probs: jax.Array, answers: jax.Array) -> jax.Array:
    """(1/N) Σ_n ‖y_n − ỹ_n‖₁."""
    check_alike(probs, answers, ("probs", "answers"))
    return jnp.mean(jax.vmap(L1())(probs, answers))


def accuracy_loss(labels: Any) -> Cost:
    """How much of the victim's accuracy on images with labels (N,) is lost, as a share in [−1, 1].

    Raises:
        ValueError: for labels that are no class indices; from the cost, for posteriors that are not as many.
    """
    known = as_labels(labels)

    def cost(probs: jax.Array, answers: jax.Array) -> jax.Array:
        check_alike(probs, answers, ("probs", "answers"))
        truth = jnp.asarray(as_labels(known, shape=np.shape(probs)[:1], classes=np.shape(probs)[1]))
        kept = [jnp.mean(jnp.argmax(p, axis=-1) == truth) for p in (probs, answers)]
        return kept[0] - kept[1]

    return cost


def calibrate(
    family: Callable[[jax.Array], Defense | StatefulDefense[Any]],
    probs: Any,
    images: Any,
    *,
    target: float,
    low: float,
    high: float,
    cost: Cost = mean_l1,
    key: jax.Array | None = None,
    batch_size: int | None = None,
    tolerance: float = 1e-2,
    steps: int = 30,
) -> Calibrated:
    """The largest strength s with cost(y, family(s)(y)) ≤ target on held-out queries, by bisection.

    The strength is a leaf of the defense, so the whole search runs one compiled program. The cost should grow with the
    strength; where it does not (random noise on few queries), what is found stays within the target all the same.

    Args:
        family: a defense for each strength, as `lambda epsilon: MAD(network, params, epsilon)`; one with memory answers
            the queries in their order, beginning with none.
        probs: clean posteriors of held-out queries, (N, K).
        images: these queries, (N, H, W, C).
        target: what the defense may cost, at least 0.
        low: the weakest strength.
        high: the strongest; low < high.
        cost: what is measured; mean L1 distance by default.
        key: the defender's key, for defenses that draw random numbers: every strength sees the same.
        batch_size: queries at once, to bound memory.
        tolerance: how far below the target still counts as reached.
        steps: halvings of the interval.

    Returns:
        The calibrated defense. If even the weakest costs more than the target, that one, not met.

    Raises:
        ValueError: for a target below 0, low ≥ high, or what `perturb` refuses.
    """
    if not target >= 0:
        raise ValueError(f"target must be at least 0, not {target}")
    if not low < high:
        raise ValueError(f"low must be below high, not {low} and {high}")
    check_count("steps", steps, low=0)
    probs = jnp.asarray(check_posteriors(probs))

    def costs(strength: float) -> float:
        defense: Any = family(jnp.float32(strength))
        check_defense(defense)
        if remembers(defense):
            answers, _ = perturb_sequence(defense, defense.init(), probs, images, key=key)
        else:
            answers = perturb(defense, probs, images, key=key, batch_size=batch_size)
        return float(cost(probs, answers))

    best, spent = low, costs(low)
    if (most := costs(high)) <= target:
        best, spent = high, most
    elif spent <= target:
        for _ in range(steps):
            middle = (low + high) / 2
            if (found := costs(middle)) <= target:
                low = best = middle
                spent = found
            else:
                high = middle
    met = target - tolerance <= spent <= target
    return Calibrated(family(jnp.float32(best)), float(best), spent, target, met)
