"""Poisons that were tried beside the keyed swap and lost, kept for their evidence."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pp_jax import distance, simplex
from pp_jax.defenses import KeyedSwap
from pp_jax.pytree import pytree

if TYPE_CHECKING:
    from pp_jax.defenses.ood import Novelty
    from pp_jax.types import Query


@pytree
@dataclasses.dataclass(frozen=True)
class Merged:
    """Tell strange queries the pair alone: ỹ = (y + y_π)/2 where level(x) < q, else y; no coin.

    It says as little of a strange query as the keyed swap, at half the L1 distance in the worst case. But it shows
    which answers are clean.

    Attributes:
        novelty: the gate; None to count every query as strange.
        partners: π, (K,) whole numbers, each other's.
        share: q.
    """

    novelty: Novelty | None
    partners: jax.Array
    share: jax.Array | float

    random = False

    @property
    def reads_image(self) -> bool:
        """Whether there is a gate, which looks at the image."""
        return self.novelty is not None

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the answer for one posterior, (K,)."""
        probs = simplex.working(probs)
        strange = KeyedSwap(self.novelty, self.partners, self.share).strange(probs, query.image)
        return jnp.where(strange, (probs + probs[self.partners]) / 2, probs)


class PoisonNetwork(nn.Module):
    """Logits (K,) of a posterior (K,) and noise: two hidden layers of 128 over log(y + 1e-6), u.

    Attributes:
        noise: numbers that it is given beside the posterior.
        hidden: units of each hidden layer.
    """

    noise: int = 8
    hidden: tuple[int, ...] = (128, 128)

    @nn.compact
    def __call__(self, probs: jax.Array, noise: jax.Array) -> jax.Array:
        """Logits, (K,)."""
        # Both on a scale of about one: as they come, logarithms would drown the noise.
        values = jnp.concatenate([jnp.log(probs + 1e-6) / 4, 4 * noise.astype(probs.dtype) - 2])
        for units in self.hidden:
            values = nn.relu(nn.Dense(units)(values))
        return nn.Dense(probs.shape[-1])(values)

    def fresh(self, key: jax.Array, classes: int) -> Any:
        """Parameters at random."""
        return self.init(key, jnp.full(classes, 1 / classes), jnp.zeros(self.noise))


@pytree
@dataclasses.dataclass(frozen=True)
class LearnedPoison:
    """Move the posterior to where a network says, as far as the budget goes; `unrolling` trains the network.

    ỹ = y + min(1, ε/‖t − y‖₁)(t − y),   t = softmax(net(log(y + 1e-6), u)),   u ~ Uniform(0, 1)^n

    The noise comes from the owner's key and the image, so a repeated query has one answer.

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; ‖ỹ − y‖₁ ≤ ε + 1e-6; never NaN for finite logits. It does not keep the
    argmax.

    Attributes:
        network: a `PoisonNetwork`; static.
        params: its parameters; a leaf.
        epsilon: ε ∈ [0, 2]; a leaf.
    """

    network: PoisonNetwork = dataclasses.field(metadata={"static": True})
    params: Any
    epsilon: jax.Array | float

    random = True
    reads_image = False

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the answer for one posterior, (K,)."""
        probs = simplex.working(probs)
        noise = jax.random.uniform(query.key, (self.network.noise,), probs.dtype)
        logits: Any = self.network.apply(self.params, probs, noise)
        target = jax.nn.softmax(logits).astype(probs.dtype)
        return simplex.feasible(probs, target, epsilon=jnp.asarray(self.epsilon, probs.dtype), distance=distance.L1())
