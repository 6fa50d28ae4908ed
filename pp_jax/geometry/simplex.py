"""The probability simplex Δ^K: checks at the edge, and the feasibility step that ends every perturbing defense."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from pp_jax._checks import check_posteriors

if TYPE_CHECKING:
    from pp_jax.geometry.distance import Distance

# A kept class that would otherwise lose a tie is raised above the others by this share: a few float32 units in the last
# place, so that the perturbation stays within its budget to 1e-6.
_TIE_SHARE = 2.0**-22


def working(probs: jax.Array) -> jax.Array:
    """Return `probs` in the precision that responses are computed in: at least float32, summing to one.

    A bfloat16 or float16 posterior is off the simplex by up to K · 2⁻⁹; what a defense perturbs is its normalised form.
    """
    probs = jnp.asarray(probs)
    if not jnp.issubdtype(probs.dtype, jnp.floating):
        raise ValueError(f"posteriors must be floating point, not {probs.dtype}")
    wide = probs.astype(jnp.promote_types(probs.dtype, jnp.float32))
    return wide / jnp.sum(wide, axis=-1, keepdims=True)


def check(probs: Any) -> None:
    """Refuse posteriors that are not on the simplex.

    Args:
        probs: (B, K), concrete.

    Raises:
        ValueError: naming how many rows break which requirement.
    """
    check_posteriors(probs)


def first_top(probs: jax.Array) -> jax.Array:
    """The first index of the maximum of a posterior, (K,), int32: `jnp.argmax` in a third of its time on CPUs."""
    size = probs.shape[-1]
    # XLA reduces pairs of value and index one entry after the other, but maxima and minima by vectors.
    return jnp.min(jnp.where(probs == jnp.max(probs), jnp.arange(size, dtype=jnp.int32), size - 1))


def keep_top(answer: jax.Array, top: jax.Array) -> jax.Array:
    """Make `top` the first index of the maximum of `answer`, moving next to nothing.

    Entries that reach the top class are lowered to it (by a share of 2⁻²² more where they come before it and would win
    the tie), and what they lose goes to the top class.

    Args:
        answer: (K,) on the simplex; no entry exceeds that of `top` beyond rounding.
        top: index of the class to keep.

    Returns:
        (K,) on the simplex with `argmax == top`.
    """
    index = jnp.arange(answer.shape[-1])
    highest = answer[top]
    cap = jnp.where(index < top, highest * (1 - _TIE_SHARE), highest)
    lowered = jnp.where(index == top, highest, jnp.minimum(answer, cap))
    # The sums differ by rounding even where nothing was lowered: only what was lowered is moved.
    raised = lowered + jnp.sum(answer - lowered)
    # A compiler may compute `answer` again for each use and round it otherwise. The result of a reduction it keeps: the
    # other entries are held to the very number that the top class gets.
    final = jnp.max(jnp.where(index == top, raised, 0))
    cap = jnp.where(index < top, final * (1 - _TIE_SHARE), final)
    return jnp.where(index == top, final, jnp.minimum(lowered, cap))


def feasible(
    probs: jax.Array, answer: jax.Array, *, epsilon: jax.Array, distance: "Distance", keep_argmax: bool = False
) -> jax.Array:
    """Return the response, made to satisfy every promise in floating point.

    ỹ ← y + min(1, ε/dist(y, z)) (z − y), z the response clipped at zero and normalised. A distance is convex in ỹ and
    zero at y, so the step lands inside the ball; rounding is what is left to correct.

    Formal guarantees, in float32 and float64, for every y on the simplex and ε ≥ 0:
        entries ≥ 0; |Σỹ − 1| ≤ 1e-6; dist(y, ỹ) ≤ ε + 1e-6; with `keep_argmax`, argmax ỹ = argmax y (first
        index on ties).

    Args:
        probs: the clean posterior y, (K,), from `working`.
        answer: the proposed answer, (K,); with `keep_argmax`, its top class is that of y up to rounding.
        epsilon: the budget, in the unit of `distance`.
        distance: `pp_jax.distance.L1()`, `L2()` or `KL()`.
        keep_argmax: whether the top class of y is kept, ties resolved in its favour.
    """
    answer = jnp.maximum(answer, 0)
    answer = answer / jnp.sum(answer)
    spent = distance(probs, answer)
    step = jnp.where(spent > epsilon, epsilon / jnp.where(spent > epsilon, spent, 1), 1).astype(probs.dtype)
    answer = jnp.where(step < 1, probs + step * (answer - probs), answer)
    answer = jnp.maximum(answer, 0)
    return keep_top(answer, first_top(probs)) if keep_argmax else answer
