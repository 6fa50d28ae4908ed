"""MAD, maximizing angular deviation (Orekondy, Schiele, Fritz, "Prediction Poisoning", ICLR 2020)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pp_jax import gram as grams
from pp_jax._checks import check_solver
from pp_jax.defenses.cards import Card, Defender, Strength
from pp_jax.defenses.surrogates import RANDOM, Surrogate
from pp_jax.geometry import simplex
from pp_jax.geometry.distance import L1, Distance, check_budget
from pp_jax.pytree import pytree
from pp_jax.solvers import oracle
from pp_jax.solvers.heuristic import LineSearch
from pp_jax.types import LogitsFn, Params, Query, Solver

GramFn = Callable[[LogitsFn, Params, jax.Array], Any]


def _name(parameters: Mapping[str, Any]) -> str:
    """Its label."""
    return "MAD-argmax" if parameters.get("keep_argmax") else "MAD"


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
    | nearly one-hot, ε = 1 in L1 | the poison ends a rounding above the top class: offer 0.99, not 1 |
    | equal to the surrogate's (Gᵀy = 0) | the direction of largest ‖Gᵀ(z − y)‖, as the angle is undefined |

    Attributes:
        logits_fn: the surrogate, `logits_fn(surrogate, image) -> (K,)`; static.
        surrogate: its parameters (an untrained network does well: the paper's ablation).
        epsilon: budget in the unit of `distance`; a leaf, an array of budgets to `vmap` over it.
        solver: one of `pp_jax.solvers`, or any `types.Solver`; static.
        distance: `L1()`, `L2()` or `KL()` of `pp_jax.distance`; static.
        gram: a function of `pp_jax.gram`; static.

    Raises:
        ValueError: for a budget out of range, a solver that does not state its traits, or a distance that it does not
            support; at the first call for a surrogate with another number of classes.
    """

    logits_fn: LogitsFn = dataclasses.field(metadata={"static": True})
    surrogate: Params
    epsilon: jax.Array | float
    solver: Solver = dataclasses.field(default=LineSearch(), metadata={"static": True})
    distance: Distance = dataclasses.field(default=L1(), metadata={"static": True})
    gram: GramFn = dataclasses.field(default=grams.last_layer, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the solver and the distance, and the budget where it is known."""
        check_solver(self.solver)
        self.solver.check(self.distance)
        check_budget(self.epsilon, self.distance)

    @classmethod
    def argmax_preserving(
        cls, logits_fn: LogitsFn, surrogate: Params, epsilon: jax.Array | float, **kwargs: Any
    ) -> "MAD":
        """MAD-argmax: the same under the constraint that the top class stays (no accuracy is lost)."""
        return cls(logits_fn, surrogate, epsilon, solver=LineSearch(oracle.argmax_preserving), **kwargs)

    card = Card(_name, Strength("epsilon", 0.0, 2.0), {"epsilon": 0.99})

    @property
    def random(self) -> bool:
        """Whether responses depend on the defender's key."""
        return self.solver.random

    @property
    def reads_image(self) -> bool:
        """Whether the surrogate looks at the image: always but with `gram.identity`, which runs no network."""
        return self.gram is not grams.identity

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response ỹ for one posterior, (K,)."""
        probs = simplex.working(probs)
        gram = self._gram(probs, query.image)
        (classes,) = gram.diagonal().shape
        if classes != probs.shape[-1]:
            raise ValueError(f"the surrogate knows {classes} classes, the victim's posterior has {probs.shape[-1]}")
        epsilon = jnp.asarray(self.epsilon, probs.dtype)
        gram = jax.tree.map(lambda leaf: leaf.astype(probs.dtype), gram)
        own = query.key if self.random else None
        answer = self.solver(probs, gram, epsilon=epsilon, distance=self.distance, key=own)
        return simplex.feasible(
            probs, answer, epsilon=epsilon, distance=self.distance, keep_argmax=self.solver.keeps_argmax
        )

    @classmethod
    def fitted(
        cls,
        defender: Defender,
        *,
        epsilon: jax.Array | float = 0.99,
        keep_argmax: bool = False,
        surrogate: Surrogate = RANDOM,
        solver: Solver | None = None,
        distance: Distance = L1(),  # noqa: B008
        gram: GramFn = grams.last_layer,
    ) -> "MAD":
        """Make it for a victim; the published setting by default.

        Args:
            defender: the victim, and what the defender presumes of the attacker.
            epsilon: the budget; 0.99 is the largest of the paper's below 1, where labels begin to flip.
            keep_argmax: MAD-argmax, which keeps the top class; not together with `solver`.
            surrogate: the stand-in for the attacker's model: untrained, as in the paper, or trained.
            solver: another of `pp_jax.solvers`.
            distance: what the budget is measured in.
            gram: over which of the surrogate's parameters the gradient is taken.
        """
        if keep_argmax and solver is not None:
            raise ValueError("keep_argmax and solver must not both be given: a solver keeps the top class or does not")
        chosen = LineSearch(oracle.argmax_preserving if keep_argmax else oracle.extreme) if solver is None else solver
        return cls(*surrogate.build(defender), epsilon, solver=chosen, distance=distance, gram=gram)

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> "MAD":
        """The same rule with a surrogate of the attacker's own."""
        return dataclasses.replace(self, logits_fn=network, surrogate=network.init(key, image_shape))

    def _gram(self, probs: jax.Array, image: jax.Array) -> grams.Gram:
        """The Gram operator for an image; the identity needs none, so that a recovery without images works."""
        if not self.reads_image:
            return grams.Identity(jnp.ones_like(probs))
        return grams.as_operator(self.gram(self.logits_fn, self.surrogate, image))
