"""Minimum inner product: the response whose gradient has the smallest inner product with the clean one."""

import jax

from pp_jax.geometry.distance import Norm
from pp_jax.gram import Gram
from pp_jax.solvers.feasible_set import prepare


def min_inner(
    y: jax.Array,
    gram: Gram | jax.Array,
    *,
    epsilon: jax.Array | float,
    keep_argmax: bool = False,
    norm: Norm | None = "l1",
) -> jax.Array:
    """Return the feasible answer with the smallest inner product of gradients.

        argmin_z yᵀM z   s.t.   z ∈ Δ^K,  ‖z − y‖ ≤ ε   (and argmax z = argmax y where `keep_argmax`)

    A linear program; for the L1 ball it is solved exactly, by sorting. Where M y = 0 every response is as good as any
    other and the gain is tied: the mass goes to class 0.

    Args:
        y: the clean posterior, (K,).
        gram: M, the surrogate's Gram matrix (K, K), or an operator such as `pp_jax.gram.LastLayer`.
        epsilon: radius of the ball, 0 ≤ ε ≤ 2; may be traced.
        keep_argmax: keep the (first) top class of y on top.
        norm: "l1" or "l2", as in `exact`.

    Returns:
        The response, (K,), in the precision of the inputs but at least float32.

    Raises:
        ValueError: if shapes do not match or `norm` is neither.

    Source: gradient redirection (Mazeika et al., 2022) towards −Gᵀy, solved exactly.
    """
    feasible, operator = prepare(y, gram, epsilon, keep_argmax=keep_argmax, norm=norm)
    return feasible.restore(feasible.linear_max(-operator.apply(feasible.y)))
