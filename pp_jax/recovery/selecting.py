"""Recoveries that believe some responses more than others: all, their top class, or a part of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from pp_jax._checks import as_array, as_transfer, check_random_key, is_whole
from pp_jax.recovery.knowledge import Knowledge
from pp_jax.types import TransferSet


@dataclasses.dataclass(frozen=True)
class AsGiven:
    """Train on the responses as they are: the plain attacker, which knows nothing of a defense."""

    def applies_to(self, defense: Any) -> bool:
        """To every defense."""
        del defense
        return True

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the transfer set."""
        del key, knowledge
        return transfer


@dataclasses.dataclass(frozen=True)
class NoResponses:
    """Look at no response: what an attacker has without a theft, where it has images of its own."""

    def applies_to(self, defense: Any) -> bool:
        """To every defense."""
        del defense
        return True

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return an empty transfer set."""
        del key, knowledge
        return TransferSet(transfer.images[:0], transfer.answers[:0])


@dataclasses.dataclass(frozen=True)
class HardLabel:
    """Train on the class argmax_k ỹ_k (the lower index on ties): undoes whatever keeps the top class."""

    def applies_to(self, defense: Any) -> bool:
        """To every defense."""
        del defense
        return True

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images with class indices, (n,)."""
        del key, knowledge
        if np.ndim(transfer.answers) == 1 and is_whole(as_array(transfer.answers, "answers").dtype):
            return transfer  # An API of labels answered.
        transfer = as_transfer(transfer)
        return transfer._replace(answers=np.asarray(transfer.answers).argmax(axis=1))


@dataclasses.dataclass(frozen=True)
class MostConfident:
    """Train on the hard labels of the responses with the largest maxima.

    A defense that spares confident queries, as adaptive misinformation does, leaves these clean; one that is bound to
    an L1 distance ε cannot change the argmax where the victim's two largest classes are further apart than ε.

    Attributes:
        share: of the responses that are believed, in (0, 1].

    Raises:
        ValueError: for a share out of range.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        """Check the share."""
        _check_share(self.share)

    def applies_to(self, defense: Any) -> bool:
        """To every defense."""
        del defense
        return True

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images that are kept, with class indices."""
        del key, knowledge
        transfer = as_transfer(transfer)
        rows = most_certain(transfer.answers, share=self.share)
        return TransferSet(transfer.images[rows], np.asarray(transfer.answers).argmax(axis=1)[rows])


@dataclasses.dataclass(frozen=True)
class AgreementFilter:
    """Keep the images whose changed copies were answered alike: the most certain means over `Attacker.copies`.

    Attributes:
        share: of the images that are kept, in (0, 1]; three fair coins agree by chance for a quarter.

    Raises:
        ValueError: for a share out of range.
    """

    share: float = 0.3

    def __post_init__(self) -> None:
        """Check the share."""
        _check_share(self.share)

    def applies_to(self, defense: Any) -> bool:
        """To every defense."""
        del defense
        return True

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images that are kept, with their mean responses."""
        del key, knowledge
        transfer = as_transfer(transfer)
        rows = most_certain(transfer.answers, share=self.share)
        return TransferSet(transfer.images[rows], transfer.answers[rows])


@dataclasses.dataclass(frozen=True)
class ClassBalanced:
    """Keep of every answered class at most as many responses as the median class has.

    A network that misinforms may send most of what it garbles to few classes, where true responses are rare then.
    """

    def applies_to(self, defense: Any) -> bool:
        """To every defense."""
        del defense
        return True

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images that are kept, with their responses."""
        del knowledge
        check_random_key(key)
        transfer = as_transfer(transfer)
        answers = np.asarray(transfer.answers)
        classes = answers.argmax(axis=1)
        most = max(1, int(np.median(np.bincount(classes, minlength=answers.shape[1]))))
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, 4), len(answers)))
        kept = [order[classes[order] == label][:most] for label in range(answers.shape[1])]
        rows = np.sort(np.concatenate(kept))
        return TransferSet(transfer.images[rows], answers[rows])


def most_certain(responses: Any, *, share: float) -> np.ndarray:
    """Rows of (N, K) with the largest maxima, in their order, at least one; of responses alike, the first."""
    order = np.argsort(-np.asarray(responses).max(axis=1), kind="stable")
    return np.sort(order[: max(1, round(share * len(responses)))])


def _check_share(share: float) -> None:
    """Refuse a share out of range."""
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}: must be above 0 and at most 1")
