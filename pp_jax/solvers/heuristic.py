"""The paper's two-step heuristic: an oracle names a point of the simplex, a step towards it ends on the ε-ball."""

import dataclasses
from typing import Any

import jax

from pp_jax._checks import check_oracle, name_of
from pp_jax.geometry.distance import Distance, between, check_norm, project
from pp_jax.gram.operator import Gram, as_operator
from pp_jax.solvers import objective as objectives
from pp_jax.solvers import oracle as oracles
from pp_jax.types import Oracle


@dataclasses.dataclass(frozen=True)
class LineSearch:
    """ỹ = y + α(y* − y), y* the oracle's choice, α ∈ [0, 1] the largest with dist(y, ỹ) ≤ ε (Orekondy et al. 2020).

    Attributes:
        oracle: one of `pp_jax.oracle`, or any `types.Oracle`; its traits are the solver's.
        objective: `objective.angular` (H) or `objective.inner`.
        interpolate_first: judge each vertex where the line search would end, not at the vertex itself (for an oracle
            that takes `step`, such as `extreme`). It costs nothing and never gives a smaller H; whether it harms a
            student more is another question (docs/theory.md).

    Raises:
        ValueError: for an oracle that does not state its traits, or `interpolate_first` with one that takes no `step`.
    """

    oracle: Oracle = oracles.extreme
    objective: oracles.Objective = objectives.angular
    interpolate_first: bool = False

    def __post_init__(self) -> None:
        """Check the oracle and the combination."""
        check_oracle(self.oracle)
        if self.interpolate_first and not self.oracle.takes_step:
            name = name_of(self.oracle)
            raise ValueError(f"interpolate_first needs an oracle that takes `step`, such as `extreme`, not `{name}`")

    def check(self, distance: Distance) -> None:
        """Every distance has a line search."""

    @property
    def keeps_argmax(self) -> bool:
        """Whether the top class of y stays on top: wherever the oracle's choice has it there."""
        return self.oracle.keeps_argmax

    @property
    def random(self) -> bool:
        """Whether the response depends on the query's key."""
        return self.oracle.random

    def __call__(
        self, probs: jax.Array, gram: Gram | jax.Array, *, epsilon: jax.Array, distance: Distance, key: jax.Array | None
    ) -> jax.Array:
        """Return ỹ, (K,), for one posterior."""
        gram = as_operator(gram)
        # An oracle that draws without saying so is stopped here: it would draw from a key that everybody knows.
        options: dict[str, Any] = {"objective": self.objective, "key": key if self.random else None}
        if self.interpolate_first:
            options["step"] = distance.line_search_vertices(probs, epsilon)
        target = self.oracle(probs, gram, **options)
        return between(probs, target, distance.line_search(probs, target, epsilon))


@dataclasses.dataclass(frozen=True)
class Projection:
    """ỹ = y* moved into ball ∩ simplex by alternating Euclidean projections, the alternative to the line search.

    Attributes:
        oracle: one of `pp_jax.oracle`, or any `types.Oracle`.
        objective: `objective.angular` or `objective.inner`.

    Raises:
        ValueError: for an oracle that does not state its traits.
    """

    oracle: Oracle = oracles.extreme
    objective: oracles.Objective = objectives.angular

    check = check_norm

    def __post_init__(self) -> None:
        """Check the oracle."""
        check_oracle(self.oracle)

    @property
    def keeps_argmax(self) -> bool:
        """A projection may reorder classes: the top class is not promised."""
        return False

    @property
    def random(self) -> bool:
        """Whether the response depends on the query's key."""
        return self.oracle.random

    def __call__(
        self, probs: jax.Array, gram: Gram | jax.Array, *, epsilon: jax.Array, distance: Distance, key: jax.Array | None
    ) -> jax.Array:
        """Return ỹ, (K,), for one posterior."""
        own = key if self.random else None
        target = self.oracle(probs, as_operator(gram), objective=self.objective, key=own)
        return project(probs, target, epsilon, distance=distance)
