"""Reverse sigmoid (Lee, Edwards, Molloy, Su: "Defending against machine learning model stealing attacks", 2019)."""

import dataclasses

import jax
import jax.numpy as jnp

from pp_jax._checks import check_range
from pp_jax.defenses.cards import Card, Strength
from pp_jax.geometry import simplex
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
        gamma: slope γ ∈ (0, 1] (published: 0.2 MNIST, 0.4 FashionMNIST, 0.1 CIFAR-10, 0.2 others).

    Raises:
        ValueError: for β or γ out of range.
    """

    beta: jax.Array | float
    gamma: jax.Array | float = 0.2

    card = Card("reverse sigmoid", Strength("beta", 0.0, 1.0), {"beta": 1.0, "gamma": 0.2})
    random = False
    reads_image = False

    def __post_init__(self) -> None:
        """Check the parameters where they are known."""
        check_range("beta", self.beta, low=0, high=1)
        check_range("gamma", self.gamma, low=0, high=1, open_low=True)

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        del query
        probs = simplex.working(probs)
        perturbed = probs - self.beta * _excess(probs, self.gamma)
        perturbed = jnp.maximum(perturbed, 0).astype(probs.dtype)
        return perturbed / jnp.sum(perturbed)


def _excess(probs: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """σ(γ σ⁻¹(y)) − ½, in [−½, ½], (K,)."""
    is_top = jnp.arange(probs.shape[-1]) == jnp.argmax(probs)
    # 1 − y cancels at the top class alone (elsewhere y ≤ ½): there it is the sum of the others.
    rest = jnp.where(is_top, jnp.sum(jnp.where(is_top, 0, probs)), 1 - probs)
    log_odds = jnp.log(probs) - jnp.log(rest)
    return jax.nn.sigmoid(gamma * log_odds) - 0.5


@pytree
@dataclasses.dataclass(frozen=True)
class DCP:
    """Deceptive perturbation, a reverse sigmoid where the victim is not confident: ỹ ∝ y − α β[σ(γ σ⁻¹(y)) − ½].

    α = 1/(1 + exp(ν (max y − β))),   ν = 1000

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; deterministic; never NaN.
    It promises no distance and does not keep every argmax. That β is both the magnitude and the threshold of confidence
    is taken from a secondary source.

    | posterior, parameters | answer |
    |---|---|
    | one-hot, β < 1 | y, up to e^{−ν(1 − β)} |
    | max y = β | half of the reverse sigmoid's perturbation |
    | uniform | y: every entry moves by the same amount |
    | tied entries | stay tied |
    | denormal entries | rise to about αβ/2 before normalisation, as zeros do |
    | K = 2 | max y ≥ ½: y for β well below ½ |
    | β = 0 | y |

    Attributes:
        beta: magnitude and threshold β ∈ [0, 1]; a leaf.
        gamma: slope γ ∈ (0, 1]; a leaf.
        nu: sharpness 0 ≤ ν ≤ 1e15 of the threshold; a leaf.

    Raises:
        ValueError: for β, γ or ν out of range.

    Source: the deceptive perturbation evaluated in ModelGuard (Tang et al., 2024).
    """

    beta: jax.Array | float
    gamma: jax.Array | float = 0.2
    nu: jax.Array | float = 1000.0

    card = Card("DCP", Strength("beta", 0.0, 1.0))
    random = False
    reads_image = False

    def __post_init__(self) -> None:
        """Check the parameters where they are known."""
        check_range("beta", self.beta, low=0, high=1)
        check_range("gamma", self.gamma, low=0, high=1, open_low=True)
        check_range("nu", self.nu, low=0, high=1e15)

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        del query
        # Taken as given: ν magnifies the rounding of a normalisation.
        confidence = jnp.max(probs)
        probs = simplex.working(probs)
        alpha = jax.nn.sigmoid(self.nu * (self.beta - confidence.astype(probs.dtype)))
        perturbed = probs - alpha * self.beta * _excess(probs, self.gamma)
        perturbed = jnp.maximum(perturbed, 0).astype(probs.dtype)
        return perturbed / jnp.sum(perturbed)
