"""From the calls that share one parameter, and the cotangents of their outputs, to that parameter's Gram matrix.

With G_i = Σ_calls Σ_s φ[s] ⊗ δ_i[s] there are two ways to M_ij = ⟨G_i, G_j⟩; shapes say which is cheaper:

    positions × positions:  M_ij = Σ_{s,t} ⟨φ[s], φ[t]⟩ ⟨δ_i[s], δ_j[t]⟩       (S² numbers)
    one kernel per class:   M = G Gᵀ                                           (K·n·o numbers)

Calls are joined along s, so that a shared kernel gets its cross terms in either form.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from pp_jax.gram.calls import Bias, Factor, Kernel, Rows, Scale

# A number written to memory costs about as much as this many multiply-adds.
_PRODUCTS_PER_NUMBER = 16
# Up to this many classes are written out one by one.
_UNROLLED_CLASSES = 16


def contract(factors: Sequence[Factor], cotangents: Sequence[jax.Array], *, bias: bool = False) -> jax.Array:
    """Gram matrix of one parameter from all the calls that use it.

    Args:
        factors: one factor per call, all of one kind (`alike`).
        cotangents: one per call, (K, *output shape): row k belongs to log p_k.
        bias: count in the bias that the same calls add: one more entry in every φ[s], and it is 1.

    Returns:
        M, (K, K), in float32 or wider.
    """
    cotangents = [_wide(delta) for delta in cotangents]
    if isinstance(factors[0], Kernel | Rows):
        return _outer(factors, cotangents, bias)
    gradients = list(map(_gradient, factors, cotangents))
    gradient = sum(gradients[1:], gradients[0])
    gram = gradient @ gradient.T
    return gram + contract([Bias()] * len(factors), cotangents) if bias else gram


def alike(factors: Sequence[Factor]) -> bool:
    """Whether `contract` can join the calls of these factors: one kind, one layout of the parameter."""
    return len({_layout(factor) for factor in factors}) == 1


def _layout(factor: Factor) -> tuple[object, ...]:
    """The kind of a factor and how it lays out its parameter."""
    if isinstance(factor, Kernel) and factor.window is not None:
        return Kernel, factor.window.size, factor.window.groups
    return (type(factor),)


def _wide(x: jax.Array) -> jax.Array:
    """`x` in float32 or wider: sums over positions need the digits."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _gradient(factor: Factor, delta: jax.Array) -> jax.Array:
    """Gradients (K, C) of a scale or a bias over the last axis of `delta`."""
    if isinstance(factor, Scale):
        return jnp.einsum("sc,ksc->kc", _wide(_flat(factor.normalized)), _flat(delta, keep=1))
    return _flat(delta, keep=1).sum(axis=1)


def _flat(x: jax.Array, *, keep: int = 0) -> jax.Array:
    """`x` with the axes between the first `keep` and the last joined into one."""
    return x.reshape(*x.shape[:keep], -1, x.shape[-1])


def _outer(factors: Sequence[Factor], cotangents: Sequence[jax.Array], bias: bool) -> jax.Array:
    """Gram matrix of an outer-product parameter by the cheaper form."""
    features, rows, groups, fan_in = _features(factors)
    deltas = [delta.reshape(delta.shape[0], -1, groups, delta.shape[-1] // groups) for delta in cotangents]
    delta = jnp.concatenate(deltas, axis=1) if len(deltas) > 1 else deltas[0]
    classes, positions, _, fan_out = delta.shape
    if by_positions(classes, positions, fan_in, fan_out):
        similar = _equal(features) if rows else jnp.einsum("sgn,tgn->gst", features, features)
        spread = jnp.einsum("gst,ktgo->ksgo", similar.astype(delta.dtype) + int(bias), delta)
        return spread.reshape(classes, -1) @ delta.reshape(classes, -1).T
    if rows:
        features = jax.nn.one_hot(features, fan_in, dtype=delta.dtype)[:, None]
    if bias:
        features = jnp.concatenate([features, jnp.ones_like(features[..., :1])], axis=-1)
    kernels = _kernels(features, delta).reshape(classes, -1)
    return kernels @ kernels.T


def _kernels(features: jax.Array, delta: jax.Array) -> jax.Array:
    """Gradients Σ_s φ[s] ⊗ δ_k[s] of every class, (K, groups, n, o)."""
    if delta.shape[0] > _UNROLLED_CLASSES:
        return jnp.einsum("sgn,ksgo->kgno", features, delta)
    # One product for all classes makes XLA:CPU transpose the cotangents first, which takes longer than the product.
    return jnp.stack([jnp.einsum("sgn,sgo->gno", features, row) for row in delta])


def _features(factors: Sequence[Factor]) -> tuple[jax.Array, bool, int, int]:
    """Joined φ (S, groups, n), or joined row indices (S,); whether they are rows; groups; fan-in of a group."""
    if isinstance(factors[0], Rows):
        return jnp.concatenate([f.ids.ravel() for f in factors if isinstance(f, Rows)]), True, 1, factors[0].size
    pieces = [_wide(f.features()) for f in factors if isinstance(f, Kernel)]
    features = jnp.concatenate(pieces) if len(pieces) > 1 else pieces[0]
    return features, False, features.shape[1], features.shape[2]


def _equal(ids: jax.Array) -> jax.Array:
    """⟨φ[s], φ[t]⟩ of one-hot features, (1, S, S)."""
    return (ids[:, None] == ids[None, :])[None]


def by_positions(classes: int, positions: int, fan_in: int, fan_out: int) -> bool:
    """Whether positions × positions beats one kernel per class, per channel group, counting products and memory."""
    k, s, n, o = classes, positions, fan_in, fan_out
    pairs = s * s * (n + k * o) + k * k * s * o + _PRODUCTS_PER_NUMBER * (s * s + k * s * o)
    kernels = k * s * n * o + k * k * n * o + _PRODUCTS_PER_NUMBER * k * n * o
    return pairs <= kernels
