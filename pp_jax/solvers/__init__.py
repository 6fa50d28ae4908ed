"""Solvers: the best answer to one query, given the surrogate's Gram matrix. Geometry of K-vectors, no network.

What MAD takes are the classes `LineSearch`, `Projection`, `MinInner` and `MaxAngle`; the functions are what they call.
"""

from pp_jax.solvers.exact import Exact, exact
from pp_jax.solvers.heuristic import LineSearch, Projection
from pp_jax.solvers.l2 import linear_max_l2
from pp_jax.solvers.lp import linear_max_l1, linear_max_l1_top
from pp_jax.solvers.min_inner import min_inner
from pp_jax.solvers.optimal import MaxAngle, MinInner

__all__ = [
    "Exact",
    "LineSearch",
    "MaxAngle",
    "MinInner",
    "Projection",
    "exact",
    "linear_max_l1",
    "linear_max_l1_top",
    "linear_max_l2",
    "min_inner",
]
