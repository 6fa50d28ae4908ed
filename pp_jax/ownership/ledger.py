"""The ledger of a client: which of its images were answered wrongly on purpose, and whether a suspect repeats that.

Szyller, Atli, Marchal, Asokan: "DAWN: Dynamic Adversarial Watermarking of Neural Networks", ACM Multimedia 2021.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import as_pixels, check_posteriors, check_random_key, name_of
from pp_jax.defenses.composition import Chain
from pp_jax.defenses.dawn import DAWN
from pp_jax.defenses.keyed_swap import KeyedSwap
from pp_jax.ownership.contracts import Claim, Suspect, answers_of, check_significance
from pp_jax.ownership.statistics import binomial_tail
from pp_jax.serving import perturbation
from pp_jax.types import Query

MARKING = (DAWN, KeyedSwap)
"""Defenses whose wrong responses are kept in a ledger."""


@dataclasses.dataclass(frozen=True, eq=False)
class Ledger:
    """The wrong responses that one client was given, kept by the defender.

    Attributes:
        images: that were answered wrongly, (n, H, W, C).
        given: the wrong class of each, (n,).
        clean: the class that it would have had, (n,).
        classes: K.
        uniform: whether the wrong class was drawn uniformly from the K − 1 others.
        digest: of the defender's key, so that it can be shown later whose ledger this is.
    """

    images: Any
    given: np.ndarray
    clean: np.ndarray
    classes: int
    uniform: bool
    digest: str

    @classmethod
    def of(cls, defense: Any, key: jax.Array, images: Any, probs: Any) -> Ledger:
        """Find the marked ones among a client's queries: the key decides, so nothing need be written down meanwhile.

        Args:
            defense: as it was deployed: `DAWN`, `KeyedSwap`, or a chain with one of them.
            key: the defender's secret key.
            images: the client's queries, (N, H, W, C); a repeated image counts once.
            probs: the victim's clean posteriors of these, (N, K).

        Raises:
            ValueError: for a defense without a mark, a seed in place of a key, or numbers of rows that differ.
        """
        check_random_key(key)
        marking = _marking(defense)
        images, probs = as_pixels(images), check_posteriors(probs, "probs")
        if len(images) != len(probs):
            raise ValueError(f"images and probs must be as many: {len(images)} and {len(probs)}")
        _, first = np.unique([image.tobytes() for image in np.asarray(images)], return_index=True)
        rows = np.sort(first)
        images, probs = np.asarray(images)[rows], np.asarray(probs)[rows]
        clean, given = (np.asarray(part) for part in _tops(defense, key, jnp.asarray(images), jnp.asarray(probs)))
        marked = given != clean
        uniform = isinstance(marking, DAWN)
        return cls(images[marked], given[marked], clean[marked], probs.shape[1], uniform, digest(key))

    def __len__(self) -> int:
        """How many wrong responses there are."""
        return len(self.given)


@dataclasses.dataclass(frozen=True, eq=False)
class LedgerMark:
    """Whether a suspect repeats the wrong responses of a ledger, by an exact binomial test.

    With `chance` None, of the d images on which the suspect contradicts the victim, k with the class of the ledger:
    p = P(Binomial(d, 1/(K − 1)) ≥ k). The wrong class was drawn uniformly by a key that an independent model cannot
    know, so this holds exactly and needs no other models. With a `chance` q, of all n images: p = P(Binomial(n, q) ≥
    k), valid where independent models agree with the ledger as often as those that q was measured on.

    The effect is k/n.

    Attributes:
        ledger: what is asked about.
        chance: q, how often an independent model agrees with an entry; None for DAWN's draw.

    Raises:
        ValueError: for no chance where the ledger's classes were not drawn uniformly, or one outside (0, 1).
    """

    ledger: Ledger
    chance: float | None = None

    def __post_init__(self) -> None:
        """Check the chance."""
        if self.chance is None and not self.ledger.uniform:
            raise ValueError(
                "chance is None: must be given as the ledger's classes are no draw; write LedgerMark.against"
            )
        if self.chance is not None and not 0 < self.chance < 1:
            raise ValueError(f"chance must be above 0 and below 1, not {self.chance:g}")

    @classmethod
    def against(cls, ledger: Ledger, independent: Sequence[Suspect]) -> LedgerMark:
        """A mark whose chance is that of independent models: (1 + agreements)/(1 + m n), so that it is never zero.

        Raises:
            ValueError: for no models or an empty ledger.
        """
        if not independent or not len(ledger):
            raise ValueError(f"there must be models and entries, not {len(independent)} and {len(ledger)}")
        agreements = sum(int(np.sum(_labels(model, ledger) == ledger.given)) for model in independent)
        total = len(independent) * len(ledger)
        return cls(ledger, min((1 + agreements) / (1 + total), total / (1 + total)))

    def verify(self, suspect: Suspect, *, significance: float = 0.01, key: jax.Array | None = None) -> Claim:
        """Query the suspect with the images of the ledger; see `Mark.verify`.

        Args:
            suspect: the model.
            significance: α.
            key: the key that a defender brings along, to show that the ledger is its own.
        """
        if key is not None and digest(key) != self.ledger.digest:
            raise ValueError("the ledger was made with another key: bring the key of the defender that it belongs to")
        count = len(self.ledger)
        chance = 1 / (self.ledger.classes - 1) if self.chance is None else self.chance
        check_significance(
            significance,
            chance**count,
            what=f"the ledger has {count} entries, which give",
            cure="wait for more queries of this client, or raise the share of wrong responses",
        )
        labels = _labels(suspect, self.ledger)
        agreed = int(np.sum(labels == self.ledger.given))
        trials = count if self.chance is not None else int(np.sum(labels != self.ledger.clean))
        return Claim(binomial_tail(agreed, trials, chance), agreed / count, count)


def digest(key: jax.Array) -> str:
    """A digest of a random key, that says nothing of the key."""
    check_random_key(key)
    data = jax.random.key_data(key) if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return hashlib.sha256(b"pp_jax ledger" + np.asarray(data).tobytes()).hexdigest()


def _labels(suspect: Suspect, ledger: Ledger) -> np.ndarray:
    return answers_of(suspect, ledger.images, ledger.classes).argmax(axis=1)


def _marking(defense: Any) -> Any:
    """The defense that marks; a chain may hold it at any place, and the first of several counts."""
    if (found := _first(defense)) is None:
        raise ValueError(f"{name_of(defense)} keeps no ledger: must be DAWN or KeyedSwap, or a chain with one of them")
    return found


def _first(link: Any) -> Any:
    """The first mark in a link, or None."""
    if isinstance(link, Chain):
        return next((found for each in link.defenses if (found := _first(each)) is not None), None)
    return link if isinstance(link, MARKING) else None


def _around(defense: Any, probs: jax.Array, query: Query) -> tuple[jax.Array, jax.Array]:
    """What the mark in a defense was given, and what it made of it, (K,) each; keys as `Chain` derives them."""
    if not isinstance(defense, Chain):
        return probs, defense(probs, query)
    for index, link in enumerate(defense.defenses):
        own = query._replace(key=jax.random.fold_in(query.key, index) if link.random else None)
        if _first(link) is not None:
            return _around(link, probs, own)
        probs = link(probs, own)
    raise AssertionError("a chain without a mark was let through")


@jax.jit
def _tops(defense: Any, key: jax.Array, images: jax.Array, probs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The top classes before and after the mark, (N,) each."""

    def one(image: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        before, after = _around(defense, y, perturbation.make_query(defense, key, image))
        return jnp.argmax(before), jnp.argmax(after)

    return jax.lax.map(lambda row: one(*row), (images, probs), batch_size=500)
