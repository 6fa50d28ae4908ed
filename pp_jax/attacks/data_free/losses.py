"""How a clone differs from a response: what the clone minimises, and a generator that asks the victim maximises."""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
import optax
from jax.scipy.special import xlogy


class Difference(Protocol):
    """A difference of logits and responses, one number an image; hashable."""

    @property
    def labels(self) -> bool:
        """Whether class indices, as one-hots, are responses to learn from."""

    def __call__(self, logits: jax.Array, answers: jax.Array) -> jax.Array:
        """Return the difference, (B,), of a clone's logits (B, K) and responses (B, K)."""


@dataclasses.dataclass(frozen=True)
class Divergence:
    """KL(ỹ ‖ F) = Σ_k ỹ_k (log ỹ_k − log softmax(z)_k), at least 0 where ỹ sums to one; 0·log 0 = 0.

    Source: MAZE (Kariyappa et al. 2021).
    """

    labels = True

    def __call__(self, logits: jax.Array, answers: jax.Array) -> jax.Array:
        """The divergence, (B,)."""
        return jnp.sum(xlogy(answers, answers) - answers * jax.nn.log_softmax(logits), axis=-1)


@dataclasses.dataclass(frozen=True)
class LogitDistance:
    """(1/K) Σ_k |z_k − ẑ_k| with the pseudo-logits ẑ = log ỹ − mean log ỹ: logits up to a constant, from posteriors.

    Attributes:
        floor: smallest probability that is believed; what a defense cut to zero counts as this. Above 0.

    Raises:
        ValueError: for a floor outside (0, 1).

    Source: DFME (Truong et al. 2021), which has no floor.
    """

    floor: float = 1e-12

    labels = False

    def __post_init__(self) -> None:
        """Check the floor."""
        if not 0 < self.floor < 1:
            raise ValueError(f"floor must be above 0 and below 1, not {self.floor}")

    def __call__(self, logits: jax.Array, answers: jax.Array) -> jax.Array:
        """The distance, (B,)."""
        logs = jnp.log(jnp.maximum(answers, self.floor))
        return jnp.mean(jnp.abs(logits - (logs - logs.mean(axis=-1, keepdims=True))), axis=-1)


@dataclasses.dataclass(frozen=True)
class HardLabel:
    """−log softmax(z)_k at k = argmax ỹ: the cross-entropy to the hard label, whatever else a response says.

    Source: DFMS-HL (Sanyal et al. 2022), IDEAL (Zhang et al. 2023).
    """

    labels = True

    def __call__(self, logits: jax.Array, answers: jax.Array) -> jax.Array:
        """The cross-entropy, (B,)."""
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.argmax(answers, axis=-1))
