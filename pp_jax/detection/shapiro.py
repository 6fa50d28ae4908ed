"""The Shapiro–Wilk test of normality, jittable, for samples of any number up to a fixed one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri

_FIRST = (0.0, 0.221157, -0.147981, -2.07119, 4.434685, -2.706056)
_SECOND = (0.0, 0.042981, -0.293762, -1.752461, 5.682633, -3.582633)
_MEAN_FEW = (0.544, -0.39978, 0.025054, -6.714e-4)
_SPREAD_FEW = (1.3822, -0.77857, 0.062767, -0.0020322)
_MEAN_MANY = (-1.5861, -0.31082, -0.083751, 0.0038915)
_SPREAD_MANY = (-0.4803, -0.082676, 0.0030302)


class Shapiro(NamedTuple):
    """The statistic W in (0, 1], near 1 for a normal sample, and the p-value; NaN for fewer than three values."""

    w: jax.Array
    p: jax.Array


def shapiro(values: jax.Array, *, mask: jax.Array | None = None) -> Shapiro:
    """Test whether values are a sample of some normal distribution.

    W = (Σ_i a_i x_(i))² / Σ_i (x_i − x̄)²

    with the weights a of Royston's approximation, valid from 3 to 5000 values.

    | sample | W, p |
    |---|---|
    | fewer than 3 values | NaN, NaN |
    | all values equal | 1, 1 |

    Args:
        values: (N,) floating point.
        mask: (N,) which of them count; all by default.

    Returns:
        W and p, scalars of the dtype of `values`.

    Source: Royston, "Remark AS R94: a remark on algorithm AS 181: the W-test for normality", Applied Statistics 1995.
    """
    dtype = jnp.result_type(values.dtype, jnp.float32)
    size = values.shape[0]
    mask = jnp.ones(size, bool) if mask is None else mask
    n = jnp.sum(mask)
    count = n.astype(dtype)
    kept = jnp.where(mask, values.astype(dtype), 0)
    centre = jnp.sum(kept) / count
    scale = jnp.max(jnp.abs(jnp.where(mask, values.astype(dtype) - centre, 0)))
    spread = jnp.where(mask, (values.astype(dtype) - centre) / jnp.where(scale > 0, scale, 1), jnp.inf)
    ordered = jnp.sort(spread)
    place = jnp.arange(size)
    weights = _weights(place, n, count)
    inside = place < n
    x = jnp.where(inside, ordered, 0)
    mean = jnp.sum(x) / count
    deviations = jnp.where(inside, x - mean, 0)
    w = jnp.sum(weights * deviations) ** 2 / jnp.sum(deviations**2)
    w = jnp.where(scale > 0, jnp.minimum(w, 1), 1)
    p = jnp.where(scale > 0, _p_value(w, n, count), 1)
    known = n >= 3
    return Shapiro(jnp.where(known, w, jnp.nan), jnp.where(known, p, jnp.nan))


def _weights(place: jax.Array, n: jax.Array, count: jax.Array) -> jax.Array:
    """a_i for each place of the sorted sample, antisymmetric; 0 beyond the n-th."""
    inside = place < n
    quantile = jnp.where(inside, (place + 1 - 0.375) / (count + 0.25), 0.5)
    m = ndtri(quantile.astype(count.dtype))
    total = jnp.sum(m**2)
    root, first, second = 1 / jnp.sqrt(count), -m[0], -m[1]
    a1 = _poly(_FIRST, root) + first / jnp.sqrt(total)
    a2 = _poly(_SECOND, root) + second / jnp.sqrt(total)
    many = n > 5
    rest = jnp.where(
        many,
        (total - 2 * first**2 - 2 * second**2) / (1 - 2 * a1**2 - 2 * a2**2),
        (total - 2 * first**2) / (1 - 2 * a1**2),
    )
    # With three values the middle one has weight 0, whatever `rest` is.
    a = m / jnp.sqrt(jnp.where(rest > 0, rest, 1))
    a1 = jnp.where(n == 3, jnp.sqrt(jnp.asarray(0.5, count.dtype)), a1)
    a = jnp.where(many & (place == 1), -a2, jnp.where(many & (place == n - 2), a2, a))
    a = jnp.where(place == 0, -a1, jnp.where(place == n - 1, a1, a))
    return jnp.where(inside, a, 0)


def _p_value(w: jax.Array, n: jax.Array, count: jax.Array) -> jax.Array:
    """The share of normal samples whose W is smaller."""
    exact = 6 / jnp.pi * (jnp.arcsin(jnp.sqrt(w)) - jnp.arcsin(jnp.sqrt(jnp.asarray(0.75, w.dtype))))
    log = jnp.log1p(-w)
    gamma = 0.459 * count - 2.273
    few = -jnp.log(jnp.where(log < gamma, gamma - log, 1))
    logn = jnp.log(count)
    few = (few - _poly(_MEAN_FEW, count)) / jnp.exp(_poly(_SPREAD_FEW, count))
    many = (log - _poly(_MEAN_MANY, logn)) / jnp.exp(_poly(_SPREAD_MANY, logn))
    p = jnp.where(n <= 11, jnp.where(log < gamma, ndtr(-few), 0), ndtr(-many))
    return jnp.where(n == 3, jnp.maximum(exact, 0), p)


def _poly(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    """Σ_i c_i x^i."""
    value = jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value
