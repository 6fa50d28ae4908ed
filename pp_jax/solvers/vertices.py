"""The best extreme point of simplex ∩ L1 ball found by local search from every receiver, for small K.

A batch is worked on with its classes first and its posteriors last: loops over a dozen classes keep no vector unit
busy, loops over the batch do. `jax.vmap` finds that layout by a batching rule.
"""

import dataclasses

import jax
import jax.numpy as jnp

# Rounds after the third improve next to nothing.
_ROUNDS = 3
# So many posteriors at a time keep the intermediate arrays in the cache.
_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class _Angle:
    """The angle at p between z and y, that of a last layer; arrays are (K, starts, batch)."""

    y: jax.Array  # (K, 1, batch)
    p: jax.Array  # (K, 1, batch)

    def pull(self, v: jax.Array) -> jax.Array:
        """Gᵀv."""
        return v - _sum(v) * self.p

    def apply(self, v: jax.Array) -> jax.Array:
        """M v."""
        r = self.pull(v)
        return r - _sum(self.p * r)

    def products(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """yᵀMz and zᵀMz, (1, starts, batch)."""
        u = self.pull(z)
        return _sum(u * self.pull(self.y)), _sum(u * u)

    def cosine(self, z: jax.Array) -> jax.Array:
        """The cosine between Gᵀz and Gᵀy; one where either vanishes."""
        inner, square = self.products(z)
        square = square * self.products(self.y)[1]
        fine = square > jnp.finfo(z.dtype).tiny
        return jnp.where(fine, inner / jnp.sqrt(jnp.where(fine, square, 1)), 1)

    def ascent(self, z: jax.Array) -> jax.Array:
        """A positive multiple of the gradient of H at z."""
        inner, square = self.products(z)
        return inner / jnp.where(square > 0, square, 1) * self.apply(z) - self.apply(self.y)


def best_vertex(y: jax.Array, p: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Return the extreme point of simplex ∩ L1 ball with the smallest cosine that local search finds.

    Every class is tried as receiver of mass, and from each, whichever class gives first; the others follow in the order
    of the gradient, which is taken again at the best of these points. O(K⁴) a round: for small K.

    Args:
        y: the posterior, (K,).
        p: the surrogate's posterior, whose last layer gives the Gram matrix, (K,).
        epsilon: radius of the L1 ball.

    Returns:
        The extreme point, (K,).
    """

    @jax.custom_batching.custom_vmap
    def one(*arguments):
        return _search(*(x[..., None] for x in arguments))[:, 0]

    @one.def_vmap
    def _(size, batched, *arguments):
        spread = (
            jnp.moveaxis(x, 0, -1) if with_batch else jnp.broadcast_to(x[..., None], (*x.shape, size))
            for x, with_batch in zip(arguments, batched, strict=True)
        )
        return _in_turns(size, *spread).T, True

    return one(y, p, epsilon)


def _in_turns(size: int, *arguments: jax.Array) -> jax.Array:
    """`_search` for at most `_AT_ONCE` posteriors at a time."""
    turns = -(-size // _AT_ONCE)
    if turns == 1:
        return _search(*arguments)

    def split(x):
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -size % turns)], mode="edge")
        # Neighbours in the batch go to different turns, so that a batch that is sharded stays so.
        return jnp.moveaxis(padded.reshape(*x.shape[:-1], -1, turns), -1, 0)

    found = jax.lax.map(lambda turn: _search(*turn), tuple(split(x) for x in arguments))
    return jnp.moveaxis(found, 0, -1).reshape(found.shape[1], -1)[:, :size]


def _search(y: jax.Array, p: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Search from each receiver in turn, for y and p (K, batch), ε (batch,); return the best point, (K, batch)."""
    angle, budget = _Angle(y[:, None], p[:, None]), epsilon[None, None] / 2

    def better(receiver, best):
        return _better(_climb(receiver, angle, budget), best)

    start = angle.y, jnp.full_like(angle.y[:1], jnp.inf)
    return jax.lax.fori_loop(0, angle.y.shape[0], better, start)[0][:, 0]


def _climb(receiver: jax.Array, angle: _Angle, budget: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The best point in which `receiver` takes all the mass that the budget allows, and its cosine."""
    y = angle.y
    index = jnp.arange(y.shape[0])
    receives = (index == receiver)[:, None, None]
    itself = (index[:, None] == index[None, :])[:, :, None]
    givers = jnp.where(receives, 0, y)
    first = jnp.swapaxes(givers, 0, 1)
    mass = jnp.minimum(_sum(givers), budget)

    def step(_, carry):
        best, gain = carry
        # Who comes before whom in ascending order of gain, (later, earlier, batch).
        other = jnp.swapaxes(gain, 0, 1)
        earlier = (other < gain) | ((other == gain) & (index[None, :] < index[:, None])[:, :, None])
        ahead = jnp.sum(jnp.where(earlier, first, 0), axis=1, keepdims=True) + jnp.where(earlier, 0, first)
        taken = jnp.clip(mass - jnp.where(itself, 0, ahead), 0, givers)
        points = y - taken + jnp.where(receives, _sum(taken), 0)
        best = _better(_best(points, angle), best)
        return best, angle.ascent(best[0])

    start = (y, jnp.full_like(y[:1], jnp.inf)), -angle.apply(y)
    return jax.lax.fori_loop(0, _ROUNDS, step, start)[0]


def _best(points: jax.Array, angle: _Angle) -> tuple[jax.Array, jax.Array]:
    """The point of the smallest cosine among the starts, (K, 1, batch), and the cosine, (1, 1, batch)."""
    cosines = angle.cosine(points)
    chosen = jnp.arange(points.shape[1])[None, :, None] == jnp.argmin(cosines, axis=1, keepdims=True)
    return jnp.sum(jnp.where(chosen, points, 0), axis=1, keepdims=True), jnp.min(cosines, axis=1, keepdims=True)


def _better(new: tuple[jax.Array, jax.Array], old: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Whichever of two (point, cosine) has the smaller cosine."""
    return jnp.where(new[1] < old[1], new[0], old[0]), jnp.minimum(new[1], old[1])


def _sum(x: jax.Array) -> jax.Array:
    """The sum over the classes, kept as an axis."""
    return jnp.sum(x, axis=0, keepdims=True)
