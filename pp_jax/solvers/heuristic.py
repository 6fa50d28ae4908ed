"""The paper's two-step heuristic: an oracle names a point of the simplex, a step towards it ends on the ε-ball."""

import dataclasses

import jax

from pp_jax.geometry.distance import Distance, between, check_norm, project
from pp_jax.gram.operator import Gram, as_operator
from pp_jax.solvers import objective as objectives
from pp_jax.solvers import oracle as oracles


@dataclasses.dataclass(frozen=True)
class LineSearch:
    """ỹ = y + α(y* − y), y* the oracle's choice, α ∈ [0, 1] the largest with dist(y, ỹ) ≤ ε (Orekondy et al. 2020).

    Attributes:
        oracle: a function of `pp_jax.oracle`.
        objective: `objective.angular` (H) or `objective.inner`.
        interpolate_first: judge each vertex where the line search would end, not at the vertex itself (oracle `extreme`
            only). It costs nothing and never gives a smaller H; whether it harms a student more is another question
            (docs/theory.md).

    Raises:
        ValueError: for `interpolate_first` with another oracle.
    """

    oracle: oracles.Oracle = oracles.extreme
    objective: oracles.Objective = objectives.angular
    interpolate_first: bool = False

    def __post_init__(self) -> None:
        """Check the combination."""
        if self.interpolate_first and self.oracle is not oracles.extreme:
            raise ValueError(f"interpolate_first needs the oracle `extreme`, not `{_name(self.oracle)}`")

    def check(self, distance: Distance) -> None:
        """Every distance has a line search."""

    @property
    def keep_argmax(self) -> bool:
        """Whether the top class of y stays on top."""
        return self.oracle is oracles.argmax_preserving

    @property
    def random(self) -> bool:
        """Whether the answer depends on the query's key."""
        return self.oracle is oracles.random_vertex

    def __call__(
        self, probs: jax.Array, gram: Gram | jax.Array, *, epsilon: jax.Array, distance: Distance, key: jax.Array
    ) -> jax.Array:
        """Return ỹ, (K,), for one posterior."""
        gram = as_operator(gram)
        if self.interpolate_first:
            step = distance.line_search_vertices(probs, epsilon)
            target = oracles.extreme(probs, gram, objective=self.objective, step=step)
        else:
            target = self.oracle(probs, gram, objective=self.objective, key=key)
        return between(probs, target, distance.line_search(probs, target, epsilon))


@dataclasses.dataclass(frozen=True)
class Projection:
    """ỹ = y* moved into ball ∩ simplex by alternating Euclidean projections, the alternative to the line search.

    Attributes:
        oracle: a function of `pp_jax.oracle`.
        objective: `objective.angular` or `objective.inner`.
    """

    oracle: oracles.Oracle = oracles.extreme
    objective: oracles.Objective = objectives.angular

    check = check_norm

    @property
    def keep_argmax(self) -> bool:
        """A projection may reorder classes: the top class is not promised."""
        return False

    @property
    def random(self) -> bool:
        """Whether the answer depends on the query's key."""
        return self.oracle is oracles.random_vertex

    def __call__(
        self, probs: jax.Array, gram: Gram | jax.Array, *, epsilon: jax.Array, distance: Distance, key: jax.Array
    ) -> jax.Array:
        """Return ỹ, (K,), for one posterior."""
        target = self.oracle(probs, as_operator(gram), objective=self.objective, key=key)
        return project(probs, target, epsilon, distance=distance)


def _name(function: object) -> str:
    """The name of a function, or its repr."""
    return getattr(function, "__name__", repr(function))
