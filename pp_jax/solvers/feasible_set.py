"""The feasible set of a response, simplex ∩ ball with or without the top class kept, as the solvers see it."""

import dataclasses

import jax
import jax.numpy as jnp

from pp_jax.geometry.distance import Norm
from pp_jax.gram import Dense, Gram, LastLayer, as_operator
from pp_jax.solvers.l2 import linear_bound_l2, linear_max_l2, shrink_l2
from pp_jax.solvers.lp import linear_bound_l1_top, linear_max_l1, linear_max_l1_top


@dataclasses.dataclass(frozen=True)
class FeasibleSet:
    """The answers z ∈ Δ^K with ‖z − y‖ ≤ ε and, where `keep_argmax`, z_top ≥ z_j for the first top class of y."""

    y: jax.Array
    epsilon: jax.Array
    keep_argmax: bool
    norm: Norm | None

    def __post_init__(self):
        if self.norm not in ("l1", "l2"):
            raise ValueError(f"norm must be 'l1' or 'l2', not {self.norm!r}")

    @property
    def keep(self) -> jax.Array | None:
        """The class to keep on top, or None."""
        return jnp.argmax(self.y) if self.keep_argmax else None

    def linear_max(self, c: jax.Array, *, coarse: bool = False) -> jax.Array:
        """The feasible z with the largest ⟨z, c⟩, or nearly so where it may be `coarse`."""
        if self.norm == "l2":
            return linear_max_l2(self.y, c, self.epsilon, keep=self.keep)
        if self.keep_argmax:
            return linear_max_l1_top(self.y, c, self.epsilon, top=self.keep, steps=6 if coarse else None)
        return linear_max_l1(self.y, c, self.epsilon)

    def linear_bound(self, c: jax.Array) -> jax.Array:
        """An upper bound on ⟨z, c⟩ over the set, up to rounding the largest value, whatever `linear_max` finds."""
        if self.norm == "l2":
            return linear_bound_l2(self.y, c, self.epsilon, keep=self.keep)
        if self.keep_argmax:
            return linear_bound_l1_top(self.y, c, self.epsilon, top=self.keep)
        return c @ linear_max_l1(self.y, c, self.epsilon)

    def reach(self, direction: jax.Array) -> jax.Array:
        """The largest κ ≥ 0 for which y + κ·direction is feasible; Σ direction = 0."""
        shares = [self._share(self.y, -direction)]
        size = jnp.linalg.norm(direction, ord=1 if self.norm == "l1" else 2)
        shares.append(self._share(self.epsilon[None], size[None]))
        if self.keep_argmax:
            shares.append(self._share(self.y[self.keep] - self.y, direction - direction[self.keep]))
        return jnp.min(jnp.stack(shares))

    @staticmethod
    def _share(room: jax.Array, speed: jax.Array) -> jax.Array:
        """How far one may go until room − κ·speed would turn negative."""
        return jnp.min(jnp.where(speed > 0, room / jnp.where(speed > 0, speed, 1), jnp.finfo(room.dtype).max))

    def restore(self, z: jax.Array) -> jax.Array:
        """Remove what rounding (or an unfinished solver) leaves outside the set; a z that is not finite becomes y."""
        z = jnp.where(jnp.all(jnp.isfinite(z)), z, self.y)
        z = jnp.maximum(z, 0)
        total = jnp.sum(z)
        z = jnp.where(total > 0, z / jnp.where(total > 0, total, 1), self.y)
        if self.keep_argmax:
            below = jnp.minimum(z, z[self.keep])
            z = below.at[self.keep].add(jnp.sum(z - below))
        if self.norm == "l2":
            z = shrink_l2(z, self.y, self.epsilon)
        else:
            moved = jnp.sum(jnp.abs(z - self.y))
            z = self.y + (z - self.y) * jnp.minimum(1, self.epsilon / jnp.where(moved > 0, moved, 1))
        z = jnp.maximum(z, 0)
        return z if self.keep is None else _keep_first(z, self.keep)


def _keep_first(z: jax.Array, keep: jax.Array) -> jax.Array:
    """Settle ties, and differences of one rounding, for the kept class: argmax takes the first of equals."""
    highest = jnp.max(z)
    index = jnp.arange(z.shape[-1])
    capped = jnp.where(index < keep, jnp.minimum(z, jnp.nextafter(highest, jnp.zeros_like(highest))), z)
    return jnp.where(index == keep, highest, capped)


def prepare(
    y: jax.Array, gram: Gram | jax.Array, epsilon: jax.Array | float, *, keep_argmax: bool, norm: Norm | None
) -> tuple[FeasibleSet, Gram]:
    """Check shapes, raise everything to one precision (float32 at least), and drop the scale of the Gram matrix."""
    operator = as_operator(gram)
    if jnp.ndim(y) != 1:
        raise ValueError(f"a solver takes one posterior, (K,), not {jnp.shape(y)}; use jax.vmap for a batch")
    size = jax.eval_shape(operator.diagonal).shape[-1]
    if size != y.shape[-1]:
        raise ValueError(f"the Gram matrix is for {size} classes, but the posterior has {y.shape[-1]}")
    if isinstance(operator, LastLayer):
        dtype = jnp.result_type(y.dtype, operator.p.dtype, jnp.float32)
        operator = LastLayer(operator.p.astype(dtype))
    else:
        values = operator.matrix()
        dtype = jnp.result_type(y.dtype, values.dtype, jnp.float32)
        values = values.astype(dtype)
        scale = jnp.mean(jnp.diagonal(values))
        operator = Dense(values / jnp.where(scale > 0, scale, 1))
    feasible = FeasibleSet(y.astype(dtype), jnp.asarray(epsilon, dtype), keep_argmax, norm)
    return feasible, operator
