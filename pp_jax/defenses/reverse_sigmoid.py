"""Reverse sigmoid (Lee, Edwards, Molloy, Su: "Defending against machine learning model stealing attacks", 2019)."""

import dataclasses

import jax
import jax.numpy as jnp

from pp_jax import simplex
from pp_jax.defenses.validation import check_range
from pp_jax.pytree import pytree
from pp_jax.types import Query


@pytree
@dataclasses.dataclass(frozen=True)
class ReverseSigmoid:
    """ỹ ∝ y − β[σ(γ σ⁻¹(y)) − ½], element by element: high entries fall, low entries rise.

    Guarantees: entries ≥ 0 and |Σỹ − 1| ≤ 1e-6; deterministic; never NaN (σ⁻¹(0) = −∞ and σ⁻¹(1) = ∞ have their
        limits).
    It promises no distance and does not keep every argmax: at β = 1 a one-hot becomes uniform.

    Attributes:
        beta: magnitude β ∈ [0, 1]; 0 returns y.
        gamma: slope γ ∈ (0, 1] (published: .2 MNIST, .4 FashionMNIST, .1 CIFAR-10, .2 others).

    Raises:
        ValueError: for β or γ out of range.
    """

    beta: jax.Array | float
    gamma: jax.Array | float = 0.2

    random = False

    def __post_init__(self) -> None:
        """Check the parameters where they are known."""
        check_range("beta", self.beta, low=0, high=1)
        check_range("gamma", self.gamma, low=0, high=1, open_low=True)

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the answer for one posterior, (K,)."""
        del query
        probs = simplex.working(probs)
        is_top = jnp.arange(probs.shape[-1]) == jnp.argmax(probs)
        # 1 − y cancels at the top class alone (elsewhere y ≤ ½): there it is the sum of the others.
        rest = jnp.where(is_top, jnp.sum(jnp.where(is_top, 0, probs)), 1 - probs)
        log_odds = jnp.log(probs) - jnp.log(rest)
        perturbed = probs - self.beta * (jax.nn.sigmoid(self.gamma * log_odds) - 0.5)
        perturbed = jnp.maximum(perturbed, 0).astype(probs.dtype)
        return perturbed / jnp.sum(perturbed)
