"""How often a mark accuses the innocent, and p-values that do not depend on a mark's own test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pp_jax.ownership.contracts import Claim, Mark, Suspect, check_significance
from pp_jax.ownership.statistics import binomial_bound, rank_p_value


class FalseClaims(NamedTuple):
    """What became of models that never saw the mark.

    Attributes:
        rate: share that is claimed all the same.
        bound: the largest rate that these models leave room for, at 95 %.
        claims: of each model.
    """

    rate: float
    bound: float
    claims: tuple[Claim, ...]


def false_claim_rate(mark: Mark, independent: Sequence[Suspect], *, significance: float = 0.01) -> FalseClaims:
    """Verify models that were trained without the victim, and count how many are claimed.

    Args:
        mark: what is verified.
        independent: models of the same task: another seed, other data. How they were made is what the rate is about.
        significance: α.

    Raises:
        ValueError: for no models, and as `mark.verify`.
    """
    if not independent:
        raise ValueError("independent must be at least one model, not none: train some with other seeds or other data")
    claims = tuple(mark.verify(suspect, significance=significance) for suspect in independent)
    wrong = sum(claim.holds(significance) for claim in claims)
    return FalseClaims(wrong / len(claims), binomial_bound(wrong, len(claims)), claims)


def calibrated(mark: Mark, suspect: Suspect, independent: Sequence[Claim], *, significance: float = 0.01) -> Claim:
    """The claim with a p-value by rank: (1 + models that carry the mark as much)/(m + 1).

    It is valid whatever the mark's own test assumes, if the suspect were exchangeable with the independent models; it
    is never below 1/(m + 1).

    Args:
        mark: what is verified.
        suspect: the model.
        independent: claims on models that never saw the mark, such as `false_claim_rate(…).claims`.
        significance: α.

    Raises:
        ValueError: for too few models to reach α, before the suspect is queried; and as `mark.verify`.
    """
    check_significance(
        significance,
        1 / (len(independent) + 1),
        what=f"{len(independent)} independent models give",
        cure=f"train {math.ceil(1 / significance) - 1} or ask for less" if 0 < significance < 1 else "",
    )
    claim = mark.verify(suspect, significance=significance)
    return claim._replace(p_value=rank_p_value(claim.effect, [other.effect for other in independent]))
