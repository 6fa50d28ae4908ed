"""Random noise in logit space, the paper's baseline without any model of the attacker."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from pp_jax._checks import check_range
from pp_jax.defenses.cards import Card, Strength
from pp_jax.geometry import simplex
from pp_jax.pytree import pytree
from pp_jax.types import Query


@pytree
@dataclasses.dataclass(frozen=True)
class RandomNoise:
    """ỹ ∝ σ(σ⁻¹(y) + δ), δ noise of length ‖δ‖ ≤ ε in logit space (Orekondy et al. 2020, "random noise").

    Guarantees: entries ≥ 0, |Σỹ − 1| ≤ 1e-6, never NaN; one image gets one response per key, so that repeating a query
    averages nothing away. No distance in posterior space is promised: a saturated posterior hardly moves.

    Attributes:
        radius: 0 ≤ ε ≤ 1e15, of the ball of δ, in logits (not a budget of the posterior).
        norm: the ball's norm, "l1" or "l2"; δ is scaled back onto it where it lies outside; static.
        distribution: of δ's entries before that, "uniform" on [−ε, ε] or "gaussian" with deviation ε; static.

    Raises:
        ValueError: for a radius out of range, an unknown norm or distribution.
    """

    radius: jax.Array | float
    norm: Literal["l1", "l2"] = dataclasses.field(default="l1", metadata={"static": True})
    distribution: Literal["uniform", "gaussian"] = dataclasses.field(default="uniform", metadata={"static": True})

    card = Card("random noise", Strength("radius", 0.0, 400.0))
    random = True
    reads_image = False

    def __post_init__(self) -> None:
        """Check the parameters where they are known."""
        check_range("radius", self.radius, low=0, high=1e15)
        if self.norm not in ("l1", "l2"):
            raise ValueError(f"norm must be 'l1' or 'l2', not {self.norm!r}")
        if self.distribution not in ("uniform", "gaussian"):
            raise ValueError(f"distribution must be 'uniform' or 'gaussian', not {self.distribution!r}")

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        probs = simplex.working(probs)
        if self.distribution == "uniform":
            noise = jax.random.uniform(query.key, probs.shape, probs.dtype, -1, 1)
        else:
            noise = jax.random.normal(query.key, probs.shape, probs.dtype)
        noise = self.radius * noise
        length = jnp.sum(jnp.abs(noise)) if self.norm == "l1" else jnp.sqrt(jnp.sum(noise**2))
        noise = noise * jnp.where(length > self.radius, self.radius / jnp.where(length > 0, length, 1), 1)
        # log σ(σ⁻¹(y) + δ) = log y + δ − log(y e^δ + 1 − y): no logit of 0 or 1 and no e^δ is ever formed.
        raised = jnp.log(probs) + noise
        noisy = raised - jnp.logaddexp(raised, jnp.log(jnp.maximum(1 - probs, 0)))
        return jax.nn.softmax(noisy)
