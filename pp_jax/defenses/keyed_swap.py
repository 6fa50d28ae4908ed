"""Keyed swap: strange queries are answered with the classes of a pair exchanged, by a coin that only the owner knows.

Made here; docs/results/armsrace.md has its evidence.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._validate import check_range
from pp_jax.defenses.ood import Novelty
from pp_jax.geometry import simplex
from pp_jax.pytree import pytree
from pp_jax.types import Query


@pytree
@dataclasses.dataclass(frozen=True)
class KeyedSwap:
    """Exchange the probabilities of paired classes for half of the queries that are strange to the victim.

    ỹ_k = y_π(k) if level(x) < q and coin_key(x) < p, else y_k;   π(π(k)) = k

    With p = ½, answers to strange queries are distributed as if y had been exchanged beforehand: which class of a pair
    is meant cannot be told from any number of them, by whatever recovery. What a thief learns beyond the pair it
    learns from the queries that pass for familiar, and it is not told which these are: an exchanged posterior looks
    like any other. The coin comes from the owner's key and the image, so a repeated query has one answer.

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; ỹ has the entries of y in another order, so max ỹ = max y; never NaN;
    ‖ỹ − y‖₁ ≤ 2, and over keys the mean is p ‖y − y_π‖₁ for strange queries and 0 for others.

    | posterior, parameters | answer |
    |---|---|
    | one-hot, strange | itself, or the one-hot of the partner |
    | uniform | y |
    | a pair tied, denormal entries, K = 2 | exchanged as others |
    | q = 0 or p = 0 | y |
    | q = 1 or no novelty given | every query counts as strange |
    | π(k) = k | class k keeps its probability; with odd K one class must |

    Attributes:
        novelty: the gate, fitted to the victim; None to count every query as strange.
        partners: π, (K,) whole numbers; a leaf.
        share: q ∈ [0, 1], the level below which a query counts as strange: the share of genuine queries that do, half
            of which are answered wrongly; a leaf.
        probability: p ∈ [0, 1] of the exchange; a leaf.

    Raises:
        ValueError: for a number out of range or partners that are not each other's; at the first call for another
            number of classes.
    """

    novelty: Novelty | None
    partners: jax.Array
    share: jax.Array | float = 0.04
    probability: jax.Array | float = 0.5

    random = True

    @property
    def reads_image(self) -> bool:
        """Whether there is a gate, which looks at the image."""
        return self.novelty is not None

    def __post_init__(self) -> None:
        """Check the parameters where they are known."""
        check_range("share", self.share, low=0, high=1)
        check_range("probability", self.probability, low=0, high=1)
        _check_partners(self.partners)

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the answer for one posterior, (K,)."""
        probs = simplex.working(probs)
        if self.partners.shape != probs.shape:
            raise ValueError(f"there are partners for {self.partners.shape[0]} classes, of {len(probs)}")
        swap = (jax.random.uniform(query.key) < self.probability) & self.strange(probs, query.image)
        return jnp.where(swap, probs[self.partners], probs)

    def strange(self, probs: jax.Array, image: jax.Array) -> jax.Array:
        """Whether a query counts as strange, by its posterior, (K,), and image, (H, W, C); a scalar."""
        if self.novelty is None:
            return jnp.array(True)
        return self.novelty.level(probs, image) < self.share


def random_partners(key: jax.Array, classes: int) -> jax.Array:
    """Pairs of classes at random, (K,); with odd K one class is its own partner.

    Args:
        key: randomness, the owner's.
        classes: K ≥ 2.

    Raises:
        ValueError: for fewer than two classes.
    """
    if classes < 2:
        raise ValueError(f"classes must be at least 2, not {classes}")
    order = jax.random.permutation(key, classes)
    first, second = order[0 : classes - 1 : 2], order[1::2]
    return jnp.arange(classes).at[first].set(second).at[second].set(first)


def _check_partners(partners: jax.Array) -> None:
    """Refuse a map that is not its own inverse; one that is being traced cannot be seen and passes."""
    try:
        seen = np.asarray(partners)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        return
    if seen.ndim != 1 or not np.issubdtype(seen.dtype, np.integer):
        raise ValueError(f"partners must be (K,) whole numbers, not {seen.dtype} of shape {seen.shape}")
    if seen.min() < 0 or seen.max() >= len(seen) or not (seen[seen] == np.arange(len(seen))).all():
        raise ValueError(f"partners must be each other's, partners[partners[k]] = k, not {seen.tolist()}")
