"""MAD, maximizing angular deviation (Orekondy, Schiele, Fritz, "Prediction Poisoning", ICLR 2020)."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from pp_jax import gram as grams
from pp_jax.geometry import simplex
from pp_jax.geometry.distance import L1, Distance, check_budget
from pp_jax.pytree import pytree
from pp_jax.solvers import oracle
from pp_jax.solvers.heuristic import LineSearch
from pp_jax.types import LogitsFn, Params, Query

GramFn = Callable[[LogitsFn, Params, jax.Array], Any]


class Solver(Protocol):
    """Turns (y, M, ball) into an answer: geometry of K-vectors, no network."""

    @property
    def keep_argmax(self) -> bool:
        """Whether the top class of y stays on top."""

    @property
    def random(self) -> bool:
        """Whether the answer depends on the query's key."""

    def check(self, distance: Distance) -> None:
        """Raise ValueError for a distance that the solver does not support."""

    def __call__(
        self, probs: jax.Array, gram: Any, *, epsilon: jax.Array, distance: Distance, key: jax.Array
    ) -> jax.Array:
        """Return ỹ, (K,)."""


@pytree
@dataclasses.dataclass(frozen=True)
class MAD:
    """Poison a posterior so that the attacker's gradient turns as far as the budget allows.

    max_ỹ ‖Gᵀỹ/‖Gᵀỹ‖ − Gᵀy/‖Gᵀy‖‖²  s.t.  ỹ ∈ Δ^K, dist(y, ỹ) ≤ ε,   G = ∇_w log F(x; w) of a surrogate F
    (Orekondy et al. 2020, eqs. 4-7). The paper's heuristic is the default; `MAD.argmax_preserving` is its MAD-argmax.

    Formal guarantees, for every posterior on the simplex, in float32 and wider: entries ≥ 0; |Σỹ − 1| ≤ 1e-6;
    dist(y, ỹ) ≤ ε + 1e-6; with a solver that keeps the argmax, argmax ỹ = argmax y; never NaN. ε = 0 returns y.

    | posterior | answer |
    |---|---|
    | one-hot, ε = 1 in L1 | top class and poison tie at one half; the lower class index wins `argmax` |
    | nearly one-hot, ε = 1 in L1 | the poison ends a rounding above the top class: offer .99, not 1 |
    | equal to the surrogate's (Gᵀy = 0) | the direction of largest ‖Gᵀ(z − y)‖, as the angle is undefined |

    Attributes:
        logits_fn: the surrogate, `logits_fn(surrogate, image) -> (K,)`; static.
        surrogate: its parameters (an untrained network does well: the paper's ablation).
        epsilon: budget in the unit of `distance`; a leaf, an array of budgets to `vmap` over it.
        solver: a callable of `pp_jax.solvers`; static.
        distance: `L1()`, `L2()` or `KL()` of `pp_jax.distance`; static.
        gram: a function of `pp_jax.gram`; static.

    Raises:
        ValueError: for a budget out of range, or a distance that the solver does not support; at the first call for a
            surrogate with another number of classes.
    """

    logits_fn: LogitsFn = dataclasses.field(metadata={"static": True})
    surrogate: Params
    epsilon: jax.Array | float
    solver: Solver = dataclasses.field(default=LineSearch(), metadata={"static": True})
    distance: Distance = dataclasses.field(default=L1(), metadata={"static": True})
    gram: GramFn = dataclasses.field(default=grams.last_layer, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the distance, and the budget where it is known."""
        self.solver.check(self.distance)
        check_budget(self.epsilon, self.distance)

    @classmethod
    def argmax_preserving(
        cls, logits_fn: LogitsFn, surrogate: Params, epsilon: jax.Array | float, **kwargs: Any
    ) -> "MAD":
        """MAD-argmax: the same under the constraint that the top class stays (no accuracy is lost)."""
        return cls(logits_fn, surrogate, epsilon, solver=LineSearch(oracle.argmax_preserving), **kwargs)

    @property
    def random(self) -> bool:
        """Whether answers depend on the owner's key."""
        return self.solver.random

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the answer ỹ for one posterior, (K,)."""
        probs = simplex.working(probs)
        gram = grams.as_operator(self.gram(self.logits_fn, self.surrogate, query.image))
        (classes,) = gram.diagonal().shape
        if classes != probs.shape[-1]:
            raise ValueError(f"the surrogate knows {classes} classes, the victim's posterior has {probs.shape[-1]}")
        epsilon = jnp.asarray(self.epsilon, probs.dtype)
        gram = jax.tree.map(lambda leaf: leaf.astype(probs.dtype), gram)
        answer = self.solver(probs, gram, epsilon=epsilon, distance=self.distance, key=query.key)
        return simplex.feasible(
            probs, answer, epsilon=epsilon, distance=self.distance, keep_argmax=self.solver.keep_argmax
        )
