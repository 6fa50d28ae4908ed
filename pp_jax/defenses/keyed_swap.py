"""KeyedSwap: out-of-distribution queries get responses with the classes of a pair exchanged, by a keyed coin.

Made here, and refuted: it does not stop an attacker that compares the responses of near images. Kept as an entry of the
worst-case evaluation; docs/results/worst_case.md has the figures.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_random_key, check_range
from pp_jax.defenses import ood
from pp_jax.defenses.cards import Card, Defender, Strength
from pp_jax.defenses.ood import Novelty
from pp_jax.geometry import simplex
from pp_jax.pytree import pytree
from pp_jax.types import Query

GATE_IMAGES = 20_000
"""Training images that a gate is fitted to, at most."""


@pytree
@dataclasses.dataclass(frozen=True)
class KeyedSwap:
    """Exchange the probabilities of paired classes for half of the out-of-distribution queries.

    ỹ_k = y_π(k) if level(x) < q and coin_key(x) < p, else y_k;   π(π(k)) = k

    With p = ½, the response to one out-of-distribution image is distributed as if y had been exchanged beforehand. This
    holds for one image alone and protects no set of them: the victim is continuous and the coin is not, so comparing
    the responses of near images shows their relative coin; all pairs share one coin, so the coins of a whole theft
    hide about one bit. The pairing is seen from a few changed copies of an image. Queries that the OOD detector lets
    pass are answered truly, and a pool can be reshaped to pass; drifted images of benign users are often rejected. The
    coin comes from the defender's key and the image, so a repeated query has one response.

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; ỹ has the entries of y in another order, so max ỹ = max y; never NaN;
    ‖ỹ − y‖₁ ≤ 2, and over keys the mean is p ‖y − y_π‖₁ for out-of-distribution queries, 0 else.

    | posterior, parameters | response |
    |---|---|
    | one-hot, out-of-distribution | itself, or the one-hot of the partner |
    | uniform | y |
    | a pair tied, denormal entries, K = 2 | exchanged as others |
    | q = 0 or p = 0 | y |
    | q = 1 or no novelty given | every query counts as out-of-distribution |
    | π(k) = k | class k keeps its probability; with odd K one class must |

    Attributes:
        novelty: the OOD detector, fitted to the victim; None to count every query as out-of-distribution.
        partners: π, (K,) whole numbers; a leaf.
        share: q ∈ [0, 1], the p-value below which a query counts as out-of-distribution, and so the false-positive
            rate on undrifted in-distribution queries, half of which get a wrong response; a leaf.
        probability: p ∈ [0, 1] of the exchange; a leaf.

    Raises:
        ValueError: for a number out of range or partners that are not each other's; at the first call for another
            number of classes.
    """

    novelty: Novelty | None
    partners: jax.Array
    share: jax.Array | float = 0.04
    probability: jax.Array | float = 0.5

    card = Card("KeyedSwap", Strength("share", 0.0, 0.04))
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
        """Return the response for one posterior, (K,)."""
        probs = simplex.working(probs)
        if self.partners.shape != probs.shape:
            raise ValueError(f"there are partners for {self.partners.shape[0]} classes, of {len(probs)}")
        swap = (jax.random.uniform(query.key) < self.probability) & self.strange(probs, query.image)
        return jnp.where(swap, probs[self.partners], probs)

    @classmethod
    def fitted(
        cls, defender: Defender, *, share: jax.Array | float = 0.04, probability: jax.Array | float = 0.5
    ) -> "KeyedSwap":
        """Make it for a victim: a gate fitted to at most 20 000 of its training images, and pairs of its secret.

        Args:
            defender: the victim and its data.
            share: q.
            probability: p.
        """
        key = jax.random.fold_in(defender.surrogate_key, 11)
        gate = None if defender.rehearsal else gate_of(defender)
        return cls(gate, random_partners(key, defender.classes), share, probability)

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> "KeyedSwap":
        """The same pairs, which twelve queries reveal, without the gate: every query counts as strange."""
        del key, network, image_shape
        return dataclasses.replace(self, novelty=None)

    def strange(self, probs: jax.Array, image: jax.Array) -> jax.Array:
        """Whether a query counts as out-of-distribution, by its posterior, (K,), and image, (H, W, C); a scalar."""
        if self.novelty is None:
            return jnp.array(True)
        return self.novelty.level(probs, image) < self.share


def gate_of(defender: Defender) -> Novelty:
    """The gate of a victim: a forward pass over some of its training images, made once for all seeds."""
    images, labels = defender.training_set()
    return _fitted_gate(_Same(defender.params), defender.network, _Same(images), _Same(labels), defender.seed)


class _Same:
    """An object as a key: equal only to itself, and kept alive as long as it is one."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


@functools.lru_cache(maxsize=2)
def _fitted_gate(params: _Same, network: Any, images: _Same, labels: _Same, seed: int) -> Novelty:
    rows = np.asarray(jax.random.permutation(jax.random.key(seed), len(images.value)))[:GATE_IMAGES]
    return ood.fit(network, params.value, images.value[rows], np.asarray(labels.value)[rows])


def random_partners(key: jax.Array, classes: int) -> jax.Array:
    """Pairs of classes at random, (K,); with odd K one class is its own partner.

    Args:
        key: randomness, the defender's.
        classes: K ≥ 2.

    Raises:
        ValueError: for fewer than two classes.
    """
    check_random_key(key)
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
