"""The optimal solvers in the form that MAD takes: `solver(probs, gram, *, epsilon, distance, key) -> answer`."""

import dataclasses

import jax

from pp_jax.distance import L1, L2, Distance
from pp_jax.gram.operator import Gram
from pp_jax.solvers.exact import exact
from pp_jax.solvers.feasible_set import Norm
from pp_jax.solvers.min_inner import min_inner


@dataclasses.dataclass(frozen=True)
class MinInner:
    """The answer with the smallest inner product of gradients, argmin yᵀMỹ over simplex ∩ ball (`solvers.min_inner`).

    Attributes:
        keep_argmax: keep the top class of y on top.
    """

    keep_argmax: bool = False
    random = False

    def check(self, distance: Distance) -> None:
        """Refuse a distance that is not a norm."""
        _norm(type(self).__name__, distance)

    def __call__(
        self, probs: jax.Array, gram: Gram | jax.Array, *, epsilon: jax.Array, distance: Distance, key: jax.Array
    ) -> jax.Array:
        """Return ỹ, (K,), for one posterior."""
        del key
        norm = _norm(type(self).__name__, distance)
        return min_inner(probs, gram, epsilon=epsilon, keep_argmax=self.keep_argmax, norm=norm)


@dataclasses.dataclass(frozen=True)
class MaxAngle:
    """The global optimum of the angular deviation over simplex ∩ ball (`solvers.exact`).

    Attributes:
        keep_argmax: keep the top class of y on top.
    """

    keep_argmax: bool = False
    random = False

    def check(self, distance: Distance) -> None:
        """Refuse a distance that is not a norm."""
        _norm(type(self).__name__, distance)

    def __call__(
        self, probs: jax.Array, gram: Gram | jax.Array, *, epsilon: jax.Array, distance: Distance, key: jax.Array
    ) -> jax.Array:
        """Return ỹ, (K,), for one posterior."""
        del key
        norm = _norm(type(self).__name__, distance)
        return exact(probs, gram, epsilon=epsilon, keep_argmax=self.keep_argmax, norm=norm).answer


def _norm(solver: str, distance: Distance) -> Norm:
    """The norm of a ball.

    Raises:
        ValueError: for a distance that is no norm (KL).
    """
    if isinstance(distance, L1):
        return "l1"
    if isinstance(distance, L2):
        return "l2"
    raise ValueError(f"{solver} needs the distance L1 or L2, not {type(distance).__name__}")
