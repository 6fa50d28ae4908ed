"""Gram matrices as linear operators, so that solvers can use their structure.

Every question that a solver asks of a Gram matrix M = GGᵀ is one of six: M v, uᵀM v, vᵀM v, the diagonal, one column,
all of it. `Dense` answers from the stored matrix; `LastLayer` answers in O(K) from the surrogate's posterior.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax.pytree import pytree


@runtime_checkable
class Gram(Protocol):
    """The Gram matrix M = GGᵀ ∈ R^{K×K} of a surrogate's log-posterior at one image, as an operator."""

    def apply(self, v: jax.Array) -> jax.Array:
        """M v, shape (K,)."""

    def inner(self, u: jax.Array, v: jax.Array) -> jax.Array:
        """uᵀM v = ⟨Gᵀu, Gᵀv⟩, a scalar."""

    def quadratic(self, v: jax.Array) -> jax.Array:
        """vᵀM v ≥ 0, a scalar."""

    def diagonal(self) -> jax.Array:
        """The squared norms ‖Gᵀe_k‖², shape (K,)."""

    def column(self, index: jax.Array) -> jax.Array:
        """M e_index, shape (K,)."""

    def matrix(self) -> jax.Array:
        """M itself, shape (K, K)."""


@pytree
@dataclasses.dataclass(frozen=True)
class Dense:
    """A Gram matrix that is stored, `values` of shape (K, K)."""

    values: jax.Array

    def apply(self, v: jax.Array) -> jax.Array:
        """M v."""
        return self.values @ v

    def inner(self, u: jax.Array, v: jax.Array) -> jax.Array:
        """uᵀM v."""
        return u @ (self.values @ v)

    def quadratic(self, v: jax.Array) -> jax.Array:
        """vᵀM v, at least zero also where rounding says otherwise."""
        return jnp.maximum(self.inner(v, v), 0)

    def diagonal(self) -> jax.Array:
        """The diagonal of M."""
        return jnp.diagonal(self.values, axis1=-2, axis2=-1)

    def column(self, index: jax.Array) -> jax.Array:
        """Column `index` of M."""
        return self.values[:, index]

    def matrix(self) -> jax.Array:
        """M."""
        return self.values


@pytree
@dataclasses.dataclass(frozen=True)
class Identity:
    """M = I, of the ablation without a surrogate (G = I).

    Attributes:
        diagonals: K ones, in the precision to compute in.
    """

    diagonals: jax.Array

    def apply(self, v: jax.Array) -> jax.Array:
        """v."""
        return v

    def inner(self, u: jax.Array, v: jax.Array) -> jax.Array:
        """uᵀv."""
        return u @ v

    def quadratic(self, v: jax.Array) -> jax.Array:
        """‖v‖²."""
        return v @ v

    def diagonal(self) -> jax.Array:
        """Ones."""
        return self.diagonals

    def column(self, index: jax.Array) -> jax.Array:
        """e_index."""
        return jax.nn.one_hot(index, len(self.diagonals), dtype=self.diagonals.dtype)

    def matrix(self) -> jax.Array:
        """I."""
        return jnp.diag(self.diagonals)


@pytree
@dataclasses.dataclass(frozen=True)
class LastLayer:
    """M = s (I − 1pᵀ)(I − 1pᵀ)ᵀ: the Gram matrix of the weights of a last dense layer, from the posterior p alone.

    Gᵀv is v − (Σv)p (times the features, whose norm is s): every operation is O(K).

    Attributes:
        p: the surrogate's posterior, (K,).
        scale: s = ‖h‖² for features h, ‖h‖² + 1 with the bias; 1 where only angles matter.
    """

    p: jax.Array
    scale: jax.Array | float = 1.0

    def pull(self, v: jax.Array) -> jax.Array:
        """Gᵀv up to the features' direction: r = v − (Σv)p, so that ‖r‖² = vᵀM v / s.

        Σr = 0. At the top class of p both terms may be nearly one; there r is minus the sum of the others, which are
        known to the last digit.
        """
        is_top, _ = self._from_top()
        others = jnp.where(is_top, 0, v - jnp.sum(v) * self.p)
        return jnp.where(is_top, -jnp.sum(others), others)

    def apply(self, v: jax.Array) -> jax.Array:
        """M v = s(r − pᵀr) with r = v − (Σv)p."""
        r = self.pull(v)
        return self.scale * (r - self.p @ r)

    def inner(self, u: jax.Array, v: jax.Array) -> jax.Array:
        """uᵀM v = s⟨u − (Σu)p, v − (Σv)p⟩."""
        return self.scale * (self.pull(u) @ self.pull(v))

    def quadratic(self, v: jax.Array) -> jax.Array:
        """vᵀM v = s‖v − (Σv)p‖²."""
        return self.inner(v, v)

    def diagonal(self) -> jax.Array:
        """M_kk = s‖e_k − p‖²."""
        is_top, offset = self._from_top()
        others = (1 - self.p) ** 2 + jnp.maximum(self.p @ self.p - self.p**2, 0)
        return self.scale * jnp.where(is_top, offset @ offset, others)

    def column(self, index: jax.Array) -> jax.Array:
        """M e_index."""
        return self.apply(jax.nn.one_hot(index, self.p.shape[-1], dtype=self.p.dtype))

    def matrix(self) -> jax.Array:
        """M_jk = s⟨e_j − p, e_k − p⟩; also for a stack of posteriors (…, K)."""

        def one(p: jax.Array, scale: jax.Array) -> jax.Array:
            is_top, offset = LastLayer(p)._from_top()
            # e_j − p = (e_j − e_t) − q with t the top class of p and q = p − e_t: where p is nearly one-hot, an
            # expansion around the origin would cancel what matters.
            side = 0.5 - is_top.astype(p.dtype) - (offset - jnp.sum(jnp.where(is_top, offset, 0)))
            return scale * (jnp.eye(len(p), dtype=p.dtype) + side[None, :] + side[:, None] + offset @ offset)

        return jnp.vectorize(one, signature="(k),()->(k,k)")(self.p, jnp.asarray(self.scale, self.p.dtype))

    def _from_top(self) -> tuple[jax.Array, jax.Array]:
        """Where the top class t of p is, and q = p − e_t, both (K,)."""
        is_top = jnp.arange(len(self.p)) == jnp.argmax(self.p)
        return is_top, jnp.where(is_top, self.p - 1, self.p)

    def __jax_array__(self) -> jax.Array:
        """The matrix, so that jax.numpy takes the operator for one."""
        return self.matrix()

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """The matrix, so that NumPy takes the operator for one."""
        return np.asarray(self.matrix(), dtype=dtype)


def as_operator(gram: "Gram | jax.Array | np.ndarray") -> Gram:
    """Return `gram` as an operator, checking what can be checked of a plain matrix.

    Args:
        gram: an operator (returned as it is) or a matrix (K, K), symmetric and positive semi-definite.

    Raises:
        ValueError: if a matrix is not square, or (where its values are known) not finite or not symmetric.
    """
    if isinstance(gram, Gram):
        return gram
    shape = np.shape(gram)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"a Gram matrix must be square, (K, K), not {shape}")
    if isinstance(gram, np.ndarray):
        _check_values(gram)
    return Dense(jnp.asarray(gram))


def _check_values(matrix: np.ndarray) -> None:
    """Refuse a host matrix that is not finite or not symmetric."""
    if not np.isfinite(matrix).all():
        raise ValueError("a Gram matrix must be finite, but it holds NaN or infinity")
    asymmetry = np.abs(matrix - matrix.T).max()
    if asymmetry > 1e-4 * max(np.abs(matrix).max(), np.finfo(np.float32).tiny):
        raise ValueError(f"a Gram matrix must be symmetric, but M and its transpose differ by {asymmetry:.3g}")
