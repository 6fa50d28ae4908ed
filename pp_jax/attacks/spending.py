"""Queries that are paid for once: kept in memory and on disk, and not made again by the call that goes on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from pp_jax.serving.answers import PartlyAnswered, checked
from pp_jax.serving.blackbox import API, Metered
from pp_jax.serving.journal import Journal
from pp_jax.types import TransferSet


class QueriesFailed(ValueError):
    """Queries came to an end before the budget was spent; what was answered is kept.

    Attributes:
        transfer: images and responses so far, in the order of the queries; usable as `so_far=` of the same call, and as
            `serving.recorded.Recorded(error.transfer)`.
        spent: queries that were made: all that were answered, and all of a batch that was under way.
    """

    def __init__(self, message: str, transfer: TransferSet, spent: int):
        super().__init__(message)
        self.transfer, self.spent = transfer, spent


class QueriesStopped(KeyboardInterrupt):
    """The keyboard stopped the queries; `transfer` and `spent` as those of `QueriesFailed`."""

    def __init__(self, message: str, transfer: TransferSet, spent: int):
        super().__init__(message)
        self.transfer, self.spent = transfer, spent


class OtherQueries(ValueError):
    """What was answered before belongs to another attack; it stays with whoever gave it."""


class Ledger:
    """An API under a budget that knows what was answered before, and keeps what is answered now.

    Args:
        api: images in, answers out.
        budget: how many images are to be answered in all, at least 1.
        image: an image like those that will be queried.
        so_far: what was answered before: the same images must be queried, in the same order.
        journal: keeps everything on disk.
    """

    def __init__(self, api: API, budget: int, image: Any, so_far: TransferSet | None, journal: Journal | None) -> None:
        self._known = _longer(so_far, None if journal is None else journal.transfer)
        self._kept = 0 if journal is None or journal.transfer is None else journal.transfer.queries
        self._journal = journal
        self._nothing = TransferSet(np.empty((0, *np.shape(image)), np.asarray(image).dtype), np.empty((0, 0)))
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self._before = 0 if journal is None else journal.spent
        self.budget = budget
        self.queries = 0
        known = 0 if self._known is None else min(budget, self._known.queries)
        self._replayed = known
        self._meter = Metered(api, budget - known) if known < budget else None

    @property
    def left(self) -> int:
        """Images that remain to be answered."""
        return self.budget - self.queries

    @property
    def spent(self) -> int:
        """Queries that were made, in this call and, as far as is known, before."""
        return max(self._before, self._replayed) + (0 if self._meter is None else self._meter.spent)

    @property
    def transfer(self) -> TransferSet:
        """What has been answered, those answered before included."""
        parts = list(self._parts)
        if self._known is not None and self.queries < self._replayed:
            rest = slice(self.queries, self._replayed)
            parts.append((self._known.images[rest], self._known.answers[rest]))
        if not parts:
            return self._nothing
        return TransferSet(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def __call__(self, images: Any) -> np.ndarray:
        """Answer a batch: from what is known as far as that goes, and by the API.

        Raises:
            OtherQueries: these are not the images that were answered before.
            ValueError: the API answers what is no posterior.
        """
        images = np.asarray(images)
        known = self._replay(images)
        if known is not None and len(known) == len(images):
            return known
        first = 0 if known is None else len(known)
        asked = self._ask(images[first:])
        return asked if known is None else np.concatenate([known, asked])

    def _replay(self, images: np.ndarray) -> np.ndarray | None:
        """The known answers to the first of some images, or None."""
        count = min(len(images), self._replayed - self.queries)
        if self._known is None or count <= 0:
            return None
        rows = slice(self.queries, self.queries + count)
        before, answers = np.asarray(self._known.images[rows]), np.asarray(self._known.answers[rows])
        now = images[:count]
        if (before.dtype, before.shape) != (now.dtype, now.shape) or before.tobytes() != now.tobytes():
            raise OtherQueries(
                f"what was answered before are other queries than those of this attack, from number {self.queries} on: "
                "must be of the same key, attack, pool and machine; Recorded(…, otherwise=api) answers what is the same"
            )
        answers = checked(answers, count, self._width())
        new = slice(max(0, self._kept - self.queries), count)
        if self._journal is not None and len(now[new]):
            self._journal.asking(len(now[new]))
            self._journal.answered(now[new], answers[new])
        self._add(now, answers)
        return answers

    def _ask(self, images: np.ndarray) -> np.ndarray:
        """The API's answers, kept before anyone sees them."""
        assert self._meter is not None
        if self._journal is not None:
            self._journal.asking(len(images))
        try:
            answers = checked(self._meter(images), len(images), self._width())
        except PartlyAnswered as error:
            some = checked(error.answers, min(len(images), len(error.answers)), self._width())
            self._keep(images[: len(some)], some)
            raise
        self._keep(images, answers)
        return answers

    def _keep(self, images: np.ndarray, answers: np.ndarray) -> None:
        if len(answers) == 0:
            return
        self._add(images, answers)
        if self._journal is not None:
            self._journal.answered(images, answers)

    def _add(self, images: np.ndarray, answers: np.ndarray) -> None:
        self._parts.append((images, answers))
        self.queries += len(answers)

    def _width(self) -> np.ndarray | None:
        return self._parts[0][1] if self._parts else None


@contextlib.contextmanager
def keeping(ledger: Any, folder: str | os.PathLike[str] | None, *, resumable: bool = True) -> Iterator[None]:
    """Give what a ledger holds (`transfer`, `spent`, `budget`) to whoever catches what goes wrong inside.

    Raises:
        QueriesFailed: for any other exception than `OtherQueries`.
        QueriesStopped: for one from the keyboard.
    """
    try:
        yield
    except OtherQueries:
        raise
    except KeyboardInterrupt as error:
        raise QueriesStopped(_told(ledger, "stopped", folder, resumable), ledger.transfer, ledger.spent) from error
    except Exception as error:
        named = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        reason = " ".join(f"{named}{error}".split())
        raise QueriesFailed(_told(ledger, reason, folder, resumable), ledger.transfer, ledger.spent) from error


def _told(ledger: Any, reason: str, folder: Any, resumable: bool) -> str:
    """What happened, what there is, and how to go on."""
    count = ledger.transfer.queries
    if count == 0:
        return f"{reason} (none of {ledger.budget} queries was answered)"
    if folder is not None:
        cure = f"they are kept in {folder}, and the same call goes on from there"
    elif resumable:
        cure = "they are in this error's transfer, and the same call with so_far=error.transfer goes on from there"
    else:
        cure = "they are in this error's transfer"
    return f"{reason} ({count} of {ledger.budget} queries were answered: {cure})"


def _longer(one: TransferSet | None, other: TransferSet | None) -> TransferSet | None:
    """The one with more answers of two that begin alike."""
    if one is None or other is None:
        return one or other
    return one if one.queries > other.queries else other
