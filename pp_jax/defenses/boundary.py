"""BDPL, the boundary differential privacy layer (Zheng, Ye, Hu, Fang, Shi, ESORICS 2019)."""

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
class BDPL:
    """Near the decision boundary, exchange the two top classes at random, so that answers do not locate the boundary.

    y_(1) − y_(2) ≥ Δ:  ỹ = y.      Otherwise ỹ = y with probability p, and with 1 − p the two top entries of y change
    places (randomised response),   p = ½ + √(e^{2ε} − 1)/(2 + 2e^ε)

    Formal guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; ‖ỹ − y‖₁ ≤ 2Δ + 1e-6; ỹ's top class is one of y's two; never NaN;
    one image gets one response per key, so that repeating a query averages nothing away.
    Privacy of a pair: for two queries in the zone whose clean labels A, B are, a priori, equally likely alike or not,
    e^{−ε} ≤ Pr[A = B | answered labels] / Pr[A ≠ B | answered labels] ≤ e^ε, and p is the largest probability for which
    this holds (assumed to be the published definition, as p fits it exactly). One answer alone is not ε-private in the
    local sense: its odds p/(1 − p) exceed e^ε.

    | posterior | answer |
    |---|---|
    | one-hot, Δ ≤ 1 | y |
    | uniform, top two tied | the first top class or the second is raised by a rounding, as drawn |
    | three tied on top | the first two change places |
    | denormal entries | as others |
    | K = 2 | the two entries change places |
    | Δ = 0 | y |
    | ε = 0 | p = ½: the label is a coin |
    | ε ≥ 2 | p ≥ 0.94; p → 1 as ε grows |

    Attributes:
        zone: Δ ∈ [0, 1], the margin of the top class below which responses are randomised; a leaf.
        epsilon: the privacy budget 0 ≤ ε ≤ 80, not a distance; a leaf.

    Raises:
        ValueError: for a zone or budget out of range.
    """

    zone: jax.Array | float
    epsilon: jax.Array | float

    card = Card("BDPL", Strength("zone", 0.0, 1.0))
    random = True
    reads_image = False

    def __post_init__(self) -> None:
        """Check the parameters where they are known."""
        check_range("zone", self.zone, low=0, high=1)
        check_range("epsilon", self.epsilon, low=0, high=80)

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        probs = simplex.working(probs)
        values, classes = jax.lax.top_k(probs, 2)
        retain = jax.random.uniform(query.key) < retain_probability(self.epsilon)
        swapped = probs.at[classes].set(values[::-1])
        answer = simplex.keep_top(jnp.where(retain, probs, swapped), jnp.where(retain, classes[0], classes[1]))
        return jnp.where(values[0] - values[1] < self.zone, answer, probs)


def retain_probability(epsilon: jax.Array | float) -> jax.Array:
    """p = ½ + √(e^{2ε} − 1)/(2 + 2e^ε) = ½ (1 + √tanh(ε/2)): how often a label in the zone is answered as it is."""
    return (1 + jnp.sqrt(jnp.tanh(jnp.asarray(epsilon) / 2))) / 2
