"""The tests behind claims: exact binomial tails, Welch's t, and p-values by rank."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from pp_jax._checks import check_count


def binomial_tail(successes: int, trials: int, chance: float) -> float:
    """P(X ≥ k) of X ~ Binomial(n, q): Σ_{i ≥ k} C(n, i) qⁱ (1 − q)ⁿ⁻ⁱ = I_q(k, n − k + 1).

    Args:
        successes: k, from 0 to n.
        trials: n, at least 0; without trials the p-value is 1.
        chance: q ∈ [0, 1].

    Raises:
        ValueError: for numbers out of range.
    """
    check_count("trials", trials, low=0)
    check_count("successes", successes, low=0)
    if successes > trials or not 0 <= chance <= 1:
        raise ValueError(f"successes {successes} of {trials} at chance {chance:g}: must be k ≤ n and q in [0, 1]")
    return 1.0 if successes == 0 else float(special.betainc(successes, trials - successes + 1, chance))


def binomial_bound(successes: int, trials: int, *, level: float = 0.95) -> float:
    """The largest chance q that k of n successes leave room for (Clopper, Pearson 1934): I_q(k + 1, n − k) = level.

    Raises:
        ValueError: for numbers out of range, or no trials.
    """
    check_count("trials", trials, low=1)
    check_count("successes", successes, low=0)
    if successes > trials or not 0 < level < 1:
        raise ValueError(f"successes {successes} of {trials} at level {level:g}: must be k ≤ n and a level in (0, 1)")
    return 1.0 if successes == trials else float(special.betaincinv(successes + 1, trials - successes, level))


def welch(first: Any, second: Any) -> tuple[float, float, float]:
    """Welch's t-test of whether the mean of the first sample is larger, variances unknown and unequal.

    t = (ā − b̄)/√(s_a²/n_a + s_b²/n_b);   ν = (s_a²/n_a + s_b²/n_b)² / (s_a⁴/(n_a²(n_a − 1)) + s_b⁴/(n_b²(n_b − 1)))

    Args:
        first: (n_a,), n_a ≥ 2.
        second: (n_b,), n_b ≥ 2.

    Returns:
        t, ν, and the one-sided p-value. Of two constant samples, p is 0 where the first is larger, else 1.

    Raises:
        ValueError: for samples of fewer than two values, or values that are not finite.

    Source: Welch, "The generalization of Student's problem when several different population variances are involved",
        Biometrika 1947.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 1 or b.ndim != 1 or min(len(a), len(b)) < 2:
        raise ValueError(f"samples must be (n,) with n ≥ 2, not {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("samples must be finite, but hold NaN or infinity")
    apart = float(a.mean() - b.mean())
    own, other = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    if own + other == 0:
        return math.copysign(math.inf, apart) if apart else 0.0, float(len(a) + len(b) - 2), 0.0 if apart > 0 else 1.0
    t = apart / math.sqrt(own + other)
    # By shares, as the squares of small variances are no numbers any more.
    share = own / (own + other)
    freedom = 1 / (share**2 / (len(a) - 1) + (1 - share) ** 2 / (len(b) - 1))
    return t, freedom, float(special.stdtr(freedom, -t))


def rank_p_value(effect: float, others: Any) -> float:
    """(1 + #{others ≥ effect}) / (m + 1): the chance of such a rank among m exchangeable others; exact, ties count.

    Args:
        effect: of the suspect.
        others: (m,) effects of those that are known to be innocent, m ≥ 1.

    Raises:
        ValueError: for no others, or values that are NaN.
    """
    rest = np.asarray(others, np.float64)
    if rest.ndim != 1 or not len(rest):
        raise ValueError(f"others must be (m,) with m ≥ 1, not {rest.shape}")
    if np.isnan(rest).any() or math.isnan(effect):
        raise ValueError("effects must be numbers, but hold NaN")
    return float((1 + np.sum(rest >= effect)) / (len(rest) + 1))
