"""The feasible answer whose gradient points as far away from the clean one as possible, where that is a convex problem.

Of all w in the cone of simplex ∩ L1 ball the one that minimises ½‖Gᵀw + a‖², a = Gᵀy/‖Gᵀy‖, has the smallest cosine
with a, wherever that cosine is negative. A primal-dual interior point method (Mehrotra's predictor and corrector) finds
it in a fixed number of steps; each step costs O(K³) for a stored Gram matrix and O(K) for that of a last layer.

With s = Σw and e ≥ (w − s y)⁺ the constraints are r(w, e) ≥ 0, all linear:

    w,   e,   e − w + s y,   s ε/2 − Σe,   and w_top − w_j where the top class is kept.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pp_jax.gram import Dense, Gram, LastLayer


class _Rows(NamedTuple):
    """One number for each linear constraint: slacks, multipliers, or their changes."""

    weight: jax.Array  # w ≥ 0, (K,)
    excess: jax.Array  # e ≥ 0, (K,)
    cover: jax.Array  # e − w + s y ≥ 0, (K,)
    ball: jax.Array  # s ε/2 − Σe ≥ 0, ()
    order: jax.Array  # w_top − w_j ≥ 0, (K,), unused at the top itself; (0,) where the top class is free


class _Cone(NamedTuple):
    """The polytope whose cone is searched."""

    y: jax.Array
    budget: jax.Array
    top: jax.Array  # one-hot
    below: jax.Array  # one for each class that must stay below the top one, (K,); (0,) where the top class is free


def nearest_direction(
    y: jax.Array, gram: Gram, epsilon: jax.Array, *, keep_argmax: bool, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Return z inside simplex ∩ L1 ball with the smallest cosine between Gᵀz and Gᵀy, if that is negative.

    By duality (½ − ½‖Gᵀw‖² is the dual's value for any w with Mw + Ga = Aᵀλ, λ ≥ 0) no cosine is below −‖Gᵀw‖.

    Args:
        y: the posterior, (K,).
        gram: the Gram matrix as an operator.
        epsilon: radius of the L1 ball.
        keep_argmax: whether z_top ≥ z_j for the (first) top class of y.
        steps: interior point steps.

    Returns:
        z up to rounding, (K,), not meaningful, and possibly not finite, where no feasible cosine is negative or ε = 0;
        and the bound ‖Gᵀw‖, up to rounding, possibly not finite.
    """
    gram = _normalised(gram)
    top = jax.nn.one_hot(jnp.argmax(y), y.shape[-1], dtype=y.dtype)
    cone = _Cone(y, epsilon / 2, top, 1 - top if keep_argmax else top[:0])
    target = gram.apply(y) / jnp.sqrt(gram.quadratic(y))
    w, e = _start(cone, gram)
    slack = _rows(w, e, cone)
    count = 3 * y.shape[-1] + 1 + jnp.sum(cone.below)
    dual = jax.tree.map(lambda r: 1 / (count * r), slack)
    dual = dual._replace(order=dual.order * cone.below)
    body = partial(_step, cone=cone, gram=gram, target=target, count=count)
    state = jax.lax.fori_loop(0, steps, lambda _, state: _while_useful(state, body(*state), count), (w, e, slack, dual))
    w, e, _, dual = state
    pull_w, pull_e = _pulled(dual, cone)
    # What the multipliers leave of the gradient, at the scale of w: zero up to floating-point rounding.
    rest = jnp.abs(gram.apply(w) + target - pull_w) @ w + jnp.abs(pull_e) @ e
    return w / jnp.sum(w), jnp.sqrt(gram.quadratic(w) + 2 * rest)


def _while_useful(old, new, count):
    """Keep the old state once the gap is down to rounding, or where a step failed."""
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(new)]))
    useful = _dot(old[2], old[3]) > float(jnp.finfo(count.dtype).eps) ** 0.75
    return jax.tree.map(lambda a, b: jnp.where(finite & useful, b, a), old, new)


def _normalised(gram: Gram) -> Gram:
    """Drop the scale of a Gram matrix, which no angle depends on."""
    if isinstance(gram, LastLayer):
        return LastLayer(gram.p)
    values = gram.matrix()
    return Dense(values / jnp.mean(jnp.diagonal(values)))


def _start(cone: _Cone, gram: Gram) -> tuple[jax.Array, jax.Array]:
    """Return a strictly interior point: y mixed with a nearly uniform posterior."""
    size = cone.y.shape[-1]
    share = jnp.minimum(cone.budget, 1) / 2
    z = (1 - share) * cone.y + share * (1 + cone.top) / (size + 1)
    e = jnp.maximum(z - cone.y, 0) + cone.budget / (4 * size)
    scale = 1 / jnp.sqrt(gram.quadratic(z))
    return scale * z, scale * e


def _rows(w: jax.Array, e: jax.Array, cone: _Cone) -> _Rows:
    """The constraints' left-hand sides A(w, e), and one where there is no constraint."""
    rows = _change(w, e, cone)
    return rows._replace(order=rows.order + (1 - cone.below))


def _change(w: jax.Array, e: jax.Array, cone: _Cone) -> _Rows:
    """The constraints' change A(Δw, Δe)."""
    total = jnp.sum(w)
    order = cone.below * (cone.top @ w - w) if cone.below.size else cone.below
    return _Rows(w, e, e - w + total * cone.y, cone.budget * total - jnp.sum(e), order)


def _pulled(rows: _Rows, cone: _Cone) -> tuple[jax.Array, jax.Array]:
    """Aᵀ of one number a constraint, as its parts for w and for e."""
    shared = cone.y @ rows.cover + cone.budget * rows.ball
    for_w = rows.weight - rows.cover + shared
    if cone.below.size:
        order = rows.order * cone.below
        for_w = for_w + cone.top * jnp.sum(order) - order
    return for_w, rows.excess + rows.cover - rows.ball


def _step(w, e, slack: _Rows, dual: _Rows, *, cone: _Cone, gram: Gram, target: jax.Array, count):
    """Take one predictor-corrector step."""
    pull_w, pull_e = _pulled(dual, cone)
    slope_w, slope_e = gram.apply(w) + target - pull_w, -pull_e
    solve = _newton(jax.tree.map(jnp.divide, dual, slack), cone, gram)

    def direction(centre: _Rows):
        """The Newton step towards slack·dual = centre."""
        push_w, push_e = _pulled(jax.tree.map(lambda c, r, d: c / r - d, centre, slack, dual), cone)
        dw, de = solve(push_w - slope_w, push_e - slope_e)
        dr = _change(dw, de, cone)
        return dw, de, dr, jax.tree.map(lambda c, r, d, x: (c - d * x) / r - d, centre, slack, dual, dr)

    mean = _dot(slack, dual) / count
    _, _, dr, dd = direction(jax.tree.map(jnp.zeros_like, slack))
    length = _length(slack, dr, dual, dd, 1.0)
    ahead = _dot(_moved(slack, dr, length), _moved(dual, dd, length)) / count
    centre = mean * jnp.clip(ahead / mean, 0, 1) ** 3
    dw, de, dr, dd = direction(jax.tree.map(lambda x, z: centre - x * z, dr, dd))
    length = _length(slack, dr, dual, dd, 0.99)
    return w + length * dw, e + length * de, _moved(slack, dr, length), _moved(dual, dd, length)


def _newton(ratio: _Rows, cone: _Cone, gram: Gram):
    """Factor the Newton system with the ratios dual/slack; return its solver (for w, for e) -> (Δw, Δe)."""
    both = ratio.excess + ratio.cover
    phi, bend = ratio.cover / both, ratio.cover * ratio.excess / both
    kappa = phi @ cone.y + cone.budget
    softness = 1 / ratio.ball + jnp.sum(1 / both)
    solve_w = _factor(gram, _Border(ratio.weight + bend, bend, phi, kappa, softness, ratio.order * cone.below), cone)

    def solve(for_w, for_e):
        hidden = jnp.sum(for_e / both)
        lifted = phi * for_e
        dw = solve_w(for_w + lifted - cone.y @ lifted - (phi - kappa) * hidden / softness)
        total = jnp.sum(dw)
        nu = (hidden + phi @ dw - kappa * total) / softness
        return dw, (for_e + ratio.cover * (dw - total * cone.y) - nu) / both

    return solve


class _Border(NamedTuple):
    """What is left of the Newton system for Δw when Δe is eliminated, beside the Gram matrix."""

    diagonal: jax.Array
    bend: jax.Array
    phi: jax.Array
    kappa: jax.Array
    softness: jax.Array
    order: jax.Array


def _factor(gram: Gram, border: _Border, cone: _Cone):
    """Factor M + D + (I − 1yᵀ)B(I − y1ᵀ) + (φ − κ1)(φ − κ1)ᵀ/g + the order's terms; return its solver."""
    if isinstance(gram, LastLayer):
        return _factor_last_layer(gram, border, cone)
    moved = jnp.eye(cone.y.size, dtype=cone.y.dtype) - cone.y[:, None]
    full = gram.matrix() + jnp.diag(border.diagonal - border.bend) + moved.T @ (border.bend[:, None] * moved)
    lever = border.phi - border.kappa
    full = full + lever[:, None] * lever[None, :] / border.softness
    if cone.below.size:
        tied = cone.top[:, None] * border.order[None, :]
        full = full + jnp.diag(border.order + cone.top * jnp.sum(border.order)) - tied - tied.T
    factor = jax.scipy.linalg.cho_factor(full, lower=True)
    return lambda rhs: jax.scipy.linalg.cho_solve(factor, rhs)


def _factor_last_layer(gram: LastLayer, border: _Border, cone: _Cone):
    """The same in O(K): a diagonal, bordered by s = Σw, the two multipliers ν and of s, and w_top with its own."""
    diagonal = border.diagonal + 1
    lean, self_lean = border.bend * cone.y + gram.p, border.bend @ cone.y**2 + gram.p @ gram.p
    kappa, softness = border.kappa, border.softness
    columns = [-lean, border.phi, jnp.ones_like(lean)]
    corner = jnp.array([[self_lean, -kappa, -1], [-kappa, -softness, 0], [-1, 0, 0]], dtype=lean.dtype)
    if cone.below.size:
        diagonal = diagonal + border.order
        columns = [*columns, -border.order, -cone.top]
        lower = jnp.array([[jnp.sum(border.order), 1], [1, 0]], dtype=lean.dtype)
        corner = jax.scipy.linalg.block_diag(corner, lower)
    side = jnp.stack(columns, axis=1)
    thin = side / diagonal[:, None]
    inverse = _small_inverse(corner - side.T @ thin)

    def once(rhs, low):
        outer = inverse @ (low - thin.T @ rhs)
        return rhs / diagonal - thin @ outer, outer

    def solve(rhs):
        # One refinement: the ratios span many orders of magnitude in the last steps.
        inner, outer = once(rhs, jnp.zeros_like(side[0]))
        rest, _ = once(rhs - diagonal * inner - side @ outer, -(side.T @ inner) - corner @ outer)
        return inner + rest

    return solve


def _small_inverse(matrix: jax.Array) -> jax.Array:
    """Invert a small square matrix by Gauss-Jordan elimination, unrolled: one LAPACK call a posterior costs more."""
    size = matrix.shape[-1]
    work = jnp.concatenate([matrix, jnp.eye(size, dtype=matrix.dtype)], axis=1)
    for i in range(size):
        free = jnp.arange(size) >= i
        pivot = jnp.argmax(jnp.where(free, jnp.abs(work[:, i]), -1))
        row, first = work[pivot], work[i]
        chosen = (jnp.arange(size) == pivot)[:, None]
        work = jnp.where(chosen, first[None, :], work)
        row = row / row[i]
        is_row = (jnp.arange(size) == i)[:, None]
        work = jnp.where(is_row, row[None, :], work - work[:, i, None] * row[None, :])
    return work[:, size:]


def _dot(a: _Rows, b: _Rows) -> jax.Array:
    """Sum of the products of two sets of rows (absent rows have a dual of zero)."""
    return jnp.sum(jnp.stack([jnp.sum(x * z) for x, z in zip(a, b, strict=True)]))


def _moved(rows: _Rows, change: _Rows, length: jax.Array) -> _Rows:
    """Rows after a step."""
    return jax.tree.map(lambda x, d: x + length * d, rows, change)


def _length(slack: _Rows, dr: _Rows, dual: _Rows, dd: _Rows, share: float) -> jax.Array:
    """The step, at most one, that goes `share` of the way to the first constraint or multiplier that would vanish."""

    def fastest(x, d):
        return jnp.max(jnp.where(d < 0, -d / jnp.where(d < 0, x, 1), 0), initial=0)

    rates = [fastest(x, d) for x, d in zip((*slack, *dual), (*dr, *dd), strict=True)]
    return jnp.minimum(1, share / jnp.maximum(jnp.max(jnp.stack(rates)), jnp.finfo(rates[0].dtype).tiny))
