"""The global optimum of the angular deviation H over simplex ∩ ball.

Where some feasible z has yᵀMz < 0 the problem is convex (`cone`, `l2`); elsewhere H is quasi-convex and an
optimum is an extreme point, found by linear programs iterated from many starts. Every candidate is repaired to be
feasible, evaluated, and the best one returned: a wrong turn of one method never makes the response worse than
another's.
"""

import dataclasses

import jax
import jax.numpy as jnp

from pp_jax.geometry.distance import Norm
from pp_jax.gram import Gram, LastLayer
from pp_jax.pytree import pytree
from pp_jax.solvers.cone import nearest_direction
from pp_jax.solvers.feasible_set import FeasibleSet, prepare
from pp_jax.solvers.l2 import smallest_cosine_l2
from pp_jax.solvers.vertices import best_vertex

# Up to this many classes every class is tried as first giver (or second receiver), next to each receiver.
_ALL_PAIRS_UP_TO = 16
_MOST_RECEIVERS = 32


@pytree
@dataclasses.dataclass(frozen=True)
class Exact:
    """A response with what is known about its optimality.

    Attributes:
        answer: the feasible answer, (K,).
        value: its angular deviation H ∈ [0, 4].
        bound: no feasible answer has a larger H. Equal to `value` up to rounding where the problem is convex; a
            coarse bound elsewhere, where `answer` is the best of all starts.
        convex: whether the response turns the gradient by more than a right angle, which makes the problem convex.
    """

    answer: jax.Array
    value: jax.Array
    bound: jax.Array
    convex: jax.Array


def exact(
    y: jax.Array,
    gram: Gram | jax.Array,
    *,
    epsilon: jax.Array | float,
    keep_argmax: bool = False,
    norm: Norm | None = "l1",
    steps: int | None = None,
    rounds: int = 4,
) -> Exact:
    """Return the response that turns the attacker's gradient furthest.

        argmax_z H(z) = 2 − 2 yᵀMz / √(yᵀMy · zᵀMz)   s.t.   z ∈ Δ^K,  ‖z − y‖ ≤ ε
        (and argmax z = argmax y where `keep_argmax`)

    Limits: where Gᵀy = 0 or Gᵀz = 0 the cosine is 0/0 and counts as one, so H = 0. With Gᵀy = 0 every response is as
    good as any other and the first candidate, which moves mass to class 0, is returned.

    Args:
        y: the clean posterior, (K,).
        gram: M, the surrogate's Gram matrix (K, K), or an operator such as `pp_jax.gram.LastLayer`.
        epsilon: radius of the ball, 0 ≤ ε ≤ 2; may be traced.
        keep_argmax: keep the (first) top class of y on top.
        norm: "l1" or "l2", as the attribute of a distance is; None, of one that is no norm, is refused.
        steps: interior point steps (by default 12, or 18 in float64).
        rounds: linear programs from each start; a last layer of up to 16 classes, top class free, has three of its own.

    Returns:
        An `Exact`, in the precision of the inputs but at least float32.

    Raises:
        ValueError: if shapes do not match or `norm` is neither.

    Source: objective, Orekondy et al. (2020), eq. 4; solution derived in docs/theory.md.
    """
    feasible, operator = prepare(y, gram, epsilon, keep_argmax=keep_argmax, norm=norm)
    steps = steps or (18 if feasible.y.dtype == jnp.float64 else 12)
    spread = _search_extreme_points(feasible, operator, rounds)
    turned, steepest = _convex_optimum(feasible, operator, steps)
    candidates = jnp.concatenate([spread, jnp.stack([turned, _beyond_posterior(feasible, operator)])])
    candidates = jax.vmap(feasible.restore)(candidates)
    cosines = jax.vmap(lambda z: _cosine(z, feasible.y, operator))(candidates)
    best = jnp.argmin(cosines)
    answer, cosine = candidates[best], cosines[best]
    value = 2 - 2 * cosine
    bound = jnp.minimum(_bound(answer, cosine, feasible, operator), 2 + 2 * steepest)
    return Exact(answer, value, jnp.maximum(value, bound), cosine < 0)


def _cosine(z: jax.Array, y: jax.Array, gram: Gram) -> jax.Array:
    """The cosine between Gᵀz and Gᵀy; one where either vanishes."""
    if isinstance(gram, LastLayer):
        u, a = gram.pull(z), gram.pull(y)
        inner, square = u @ a, (u @ u) * (a @ a)
    else:
        inner, square = z @ gram.apply(y), gram.quadratic(z) * gram.quadratic(y)
    fine = square > jnp.finfo(square.dtype).tiny
    return jnp.where(fine, jnp.clip(inner / jnp.sqrt(jnp.where(fine, square, 1)), -1, 1), 1)


def _ascent(z: jax.Array, y: jax.Array, gram: Gram) -> jax.Array:
    """A positive multiple of the gradient of H at z: the direction that the next linear program maximises."""
    inner, square = z @ gram.apply(y), gram.quadratic(z)
    return inner / jnp.where(square > 0, square, 1) * gram.apply(z) - gram.apply(y)


def _search_extreme_points(feasible: FeasibleSet, gram: Gram, rounds: int) -> jax.Array:
    """Return extreme points (n, K), one of which is the best that local search finds."""
    y = feasible.y
    if _pairs(feasible) and not feasible.keep_argmax and isinstance(gram, LastLayer):
        return best_vertex(y, gram.p, feasible.epsilon)[None]

    def best_of(directions):
        points = jax.vmap(lambda c: feasible.linear_max(c, coarse=True))(directions)
        return points[jnp.argmin(jax.vmap(lambda z: _cosine(z, y, gram))(points))]

    points = jax.vmap(best_of)(_starts(feasible, gram))

    def improve(_, points):
        return jax.vmap(lambda z: _better(z, feasible.linear_max(_ascent(z, y, gram)), feasible, gram))(points)

    return jax.lax.fori_loop(0, rounds, improve, points)


def _pairs(feasible: FeasibleSet) -> bool:
    """Whether all pairs of a receiver and a class next to it are tried."""
    return feasible.y.shape[-1] <= _ALL_PAIRS_UP_TO and feasible.norm == "l1"


def _better(old: jax.Array, new: jax.Array, feasible: FeasibleSet, gram: Gram) -> jax.Array:
    """Whichever of two points has the smaller cosine."""
    return jnp.where(_cosine(new, feasible.y, gram) < _cosine(old, feasible.y, gram), new, old)


def _receivers(feasible: FeasibleSet, gram: Gram) -> jax.Array:
    """The classes to try as receivers of mass: all, or the most promising where there are many."""
    size = feasible.y.shape[-1]
    if size <= _MOST_RECEIVERS:
        return jnp.arange(size)
    share, towards, own = feasible.epsilon / 2, gram.apply(feasible.y), gram.quadratic(feasible.y)
    inner = (1 - share) * own + share * towards
    square = (1 - share) ** 2 * own + 2 * share * (1 - share) * towards + share**2 * gram.diagonal()
    return jax.lax.top_k(-inner / jnp.sqrt(jnp.maximum(square, jnp.finfo(square.dtype).tiny)), _MOST_RECEIVERS)[1]


def _starts(feasible: FeasibleSet, gram: Gram) -> jax.Array:
    """Directions of the first linear programs, (receivers, orders, K): who receives, and who gives or receives next."""
    y = feasible.y
    size = y.shape[-1]
    slope = -gram.apply(y)
    slope = slope / jnp.maximum(jnp.max(jnp.abs(slope)), jnp.finfo(y.dtype).tiny)
    unit = jnp.eye(size, dtype=y.dtype)
    if _pairs(feasible):
        orders = slope[None, :] - 4 * unit
        if feasible.keep_argmax:
            # The capped top class has mass to spare for a second receiver.
            second = slope[None, :] + 3 * unit
            orders = jnp.concatenate([orders, second, second - 4 * unit[feasible.keep][None, :]])
    else:
        orders = jnp.stack([slope, -y])
    return 6 * unit[_receivers(feasible, gram)][:, None, :] + orders[None, :, :]


def _convex_optimum(feasible: FeasibleSet, gram: Gram, steps: int) -> tuple[jax.Array, jax.Array]:
    """The optimum where the problem is convex, and a bound on minus the cosine."""
    if feasible.norm == "l2":
        z = smallest_cosine_l2(feasible.y, gram, feasible.epsilon, keep=feasible.keep)
        return z, jnp.ones((), z.dtype)
    z, steepest = nearest_direction(feasible.y, gram, feasible.epsilon, keep_argmax=feasible.keep_argmax, steps=steps)
    return z, jnp.where(jnp.isfinite(steepest), jnp.minimum(steepest, 1), 1)


def _beyond_posterior(feasible: FeasibleSet, gram: Gram) -> jax.Array:
    """The last feasible point on the ray from y through p: if it lies beyond p, the deviation is four."""
    y = feasible.y
    if isinstance(gram, LastLayer):
        p = gram.p
    else:
        # M p = 0 and Σp = 1 make p the solution of (M + 11ᵀ) p = 1.
        factor = jax.scipy.linalg.cho_factor(gram.matrix() + 1, lower=True)
        p = jax.scipy.linalg.cho_solve(factor, jnp.ones_like(y))
        p = p / jnp.sum(p)
    direction = p - y
    return y + jnp.minimum(feasible.reach(direction), 2 / jnp.finfo(y.dtype).eps) * direction


def _bound(answer: jax.Array, cosine: jax.Array, feasible: FeasibleSet, gram: Gram) -> jax.Array:
    """An upper bound on H over the feasible set, from three linear programs (docs/theory.md, "Certificate")."""
    y = feasible.y
    size_y, size_z = jnp.sqrt(gram.quadratic(y)), jnp.sqrt(gram.quadratic(answer))
    fine = (size_y > 0) & (size_z > 0)
    a = gram.apply(y) / jnp.where(fine, size_y, 1)
    u = gram.apply(answer) / jnp.where(fine, size_z, 1)

    # Tilt the separating normal r = a − f u by as much of u as makes it non-negative on the whole set.
    least_a, least_u, least_r = jax.vmap(lambda c: -feasible.linear_bound(-c))(jnp.stack([a, u, a - cosine * u]))
    tilt = jnp.maximum(-least_r, 0) / jnp.where(least_u > 0, least_u, 1)
    square = 1 - cosine**2
    along = (square + tilt * cosine) / jnp.sqrt(jnp.maximum(square + tilt**2, jnp.finfo(y.dtype).tiny))
    half_space = 2 + 2 * jnp.sqrt(jnp.clip(1 - along**2, 0, 1))
    bound = jnp.where((least_u > 0) & (along > 0), half_space, 4)
    # Where no feasible inner product is negative: the smallest one over the longest gradient.
    diagonal = gram.diagonal()
    longest = jnp.sqrt(jnp.max(diagonal) if feasible.norm == "l1" else jnp.sum(diagonal)) * feasible.epsilon + size_y
    acute = 2 - 2 * least_a / jnp.where(longest > 0, longest, 1)
    return jnp.where(fine, jnp.where(least_a >= 0, jnp.minimum(bound, acute), bound), 0)
