"""The optimal solvers in the form that MAD takes: `solver(probs, gram, *, epsilon, distance, key) -> answer`."""

import dataclasses

import jax

from pp_jax.geometry.distance import Distance, check_norm
from pp_jax.gram.operator import Gram
from pp_jax.solvers.exact import exact
from pp_jax.solvers.min_inner import min_inner


@dataclasses.dataclass(frozen=True)
class MinInner:
    """The response with the smallest inner product of gradients, argmin yᵀMỹ over simplex ∩ ball (`solvers.min_inner`).

    Attributes:
        keep_argmax: keep the top class of y on top.
    """

    keep_argmax: bool = False
    random = False
    check = check_norm

    @property
    def keeps_argmax(self) -> bool:
        """Whether the top class of y stays on top: where it was asked for."""
        return self.keep_argmax

    def __call__(
        self, probs: jax.Array, gram: Gram | jax.Array, *, epsilon: jax.Array, distance: Distance, key: jax.Array | None
    ) -> jax.Array:
        """Return ỹ, (K,), for one posterior."""
        del key
        return min_inner(probs, gram, epsilon=epsilon, keep_argmax=self.keep_argmax, norm=distance.norm)


@dataclasses.dataclass(frozen=True)
class MaxAngle:
    """The global optimum of the angular deviation over simplex ∩ ball (`solvers.exact`).

    Attributes:
        keep_argmax: keep the top class of y on top.
    """

    keep_argmax: bool = False
    random = False
    check = check_norm

    @property
    def keeps_argmax(self) -> bool:
        """Whether the top class of y stays on top: where it was asked for."""
        return self.keep_argmax

    def __call__(
        self, probs: jax.Array, gram: Gram | jax.Array, *, epsilon: jax.Array, distance: Distance, key: jax.Array | None
    ) -> jax.Array:
        """Return ỹ, (K,), for one posterior."""
        del key
        return exact(probs, gram, epsilon=epsilon, keep_argmax=self.keep_argmax, norm=distance.norm).answer
