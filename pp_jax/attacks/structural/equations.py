"""Equation solving: logistic and softmax regression from as many queries as a class has parameters."""

from typing import NamedTuple

import jax
import numpy as np

from pp_jax._checks import check_count
from pp_jax.attacks.structural.asking import asking, generator
from pp_jax.attacks.structural.linear import Linear, solve_softmax
from pp_jax.serving.blackbox import API


class StolenLinear(NamedTuple):
    """What a structural attack on a linear classifier ends with.

    Attributes:
        model: the classifier.
        queries: what it cost.
    """

    model: Linear
    queries: int


def solve_linear(key: jax.Array, api: API, *, features: int, budget: int | None = None) -> StolenLinear:
    """Steal a logistic or softmax regression, exactly, by d + 1 queries.

    log y_i − log y_K = (w_i − w_K)·x + b_i − b_K: a query gives K − 1 linear equations. The first d + 1 are the centre
    of the cube [0, 1]^d and half a unit along each axis, which determine everything; more are uniform, and averaged.

    Published: the paper gives its solver αk queries for k = K(d + 1) unknowns, α in {0.5, 1, 2, 5}; α = 0.5 and 1 are
    265 and 530 for its softmax regression (K = 5, d = 105), with 99.96 and 100 % of the victim's labels. The log-ratios
    make d + 1 = 106 enough for all of it, a fifth of the paper's number that is exact.

    Args:
        key: draws the queries beyond d + 1.
        api: images (B, 1, 1, d) in [0, 1] in, posteriors (B, K) out.
        features: d.
        budget: queries; d + 1 by default.

    Returns:
        The classifier and the number of queries.

    Raises:
        ValueError: for a budget below d + 1, or an API that says that it responds with labels; nothing is asked then.
        QueriesFailed: for an API that responds with labels, or with too many zeros to take logarithms of.

    Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing machine learning models via prediction APIs", USENIX
        Security 2016, section 4.1 and table 4.
    """
    check_count("features", features, low=1)
    budget = features + 1 if budget is None else budget
    check_count("the query budget", budget, low=1)
    if budget <= features:
        raise ValueError(
            f"{budget} queries do not determine {features + 1} parameters a class: must be at least d + 1; "
            f"write budget={features + 1}"
        )
    rows = queries(generator(key), features, budget)
    with asking(api, features, budget=budget, posteriors=True) as questions:
        answers = questions.posteriors(rows)
        return StolenLinear(solve_softmax(rows, answers), questions.spent)


def queries(rng: np.random.Generator, features: int, count: int) -> np.ndarray:
    """The first d + 1 queries, centre and axes, and uniform ones behind them, (count, d)."""
    centre = np.full((1, features), 0.5)
    more = rng.random((max(0, count - features - 1), features))
    return np.concatenate([centre, centre + 0.5 * np.eye(features), more])[:count]
