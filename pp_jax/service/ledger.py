"""Budgets in images, per account and in all, in total and per window: durable, and exact to the image.

An image is charged before it is answered and given back only where nothing of the answer was sent, so a process that
dies never gives back what was answered; what was in flight stays charged.
"""

import contextlib
import dataclasses
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

EVERYBODY = "*"
"""The account that all images are charged to as well; no key can have this name."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """How many images may be answered; 0 is no limit.

    Attributes:
        total: to one account, in all.
        rate: to one account, in a window.
        everybody: to all accounts together, in all.
        everybody_rate: to all together, in a window.
        window_s: length of a window, in seconds.
    """

    total: int = 0
    rate: int = 0
    everybody: int = 0
    everybody_rate: int = 0
    window_s: int = 3600


class StoreError(RuntimeError):
    """The store did not do what it was asked; nothing was charged, or it is not known whether it was."""


@dataclasses.dataclass(frozen=True)
class Charged:
    """Images that were granted.

    Attributes:
        name: the account.
        images: how many.
        window: in which they were charged.
    """

    name: str
    images: int
    window: int


@dataclasses.dataclass(frozen=True)
class Refused:
    """Why images were not granted.

    Attributes:
        reason: in one line.
        retry_after: seconds until it may be tried again; None where it never may.
    """

    reason: str
    retry_after: int | None


def refusal(place: int, images: int, had: int, limit: int, left_s: int) -> Refused:
    """Why images were not granted; of what other accounts have had it tells no number.

    Args:
        place: of the limit: the account's budget, everybody's, the account's rate, everybody's.
        images: that were asked for.
        had: images that count against the limit.
        limit: the limit.
        left_s: seconds until the next window.
    """
    per_window = place >= 2
    wait = left_s if per_window and images <= limit else None
    if place % 2:
        return Refused(f"the service's {'rate' if per_window else 'budget'} does not allow {images} more images", wait)
    left, what = max(0, limit - had), "rate" if per_window else "budget"
    return Refused(f"{left} of the {limit} images of the account's {what} are left, and {images} were asked", wait)


class Ledger(Protocol):
    """Who has had how many images; shared by everything that answers. Every method may raise `StoreError`."""

    def charge(self, name: str, images: int, limits: Limits) -> Charged | Refused:
        """Charge images to an account, all or none."""

    def refund(self, charged: Charged) -> None:
        """Give back images of which nothing was answered, in the window in which they were charged."""

    def spent(self, name: str) -> int:
        """Images that an account has had, in all."""

    def keep(self, states: Mapping[str, bytes]) -> None:
        """Keep what is remembered of accounts."""

    def kept(self, name: str) -> bytes | None:
        """What was kept of an account; None for nothing."""

    def close(self) -> None:
        """Write what is left to write."""


class SQLiteLedger:
    """A ledger in one SQLite file; survives `kill -9`, and several processes on one machine may share it.

    Args:
        path: the file; made when missing.
        clock: seconds since 1970; one that goes backwards is held at the latest time that the file has seen.

    Raises:
        ValueError: for a file that is no such ledger, or cannot be written.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock, self._lock = path, clock, threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            with self._transaction():
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS pp_spent (name TEXT, window INTEGER, images INTEGER NOT NULL, "
                    "PRIMARY KEY (name, window)) WITHOUT ROWID"
                )
                self._db.execute("CREATE TABLE IF NOT EXISTS pp_kept (name TEXT PRIMARY KEY, state BLOB NOT NULL)")
                self._db.execute("CREATE TABLE IF NOT EXISTS pp_clock (only INTEGER PRIMARY KEY, latest REAL NOT NULL)")
        except (sqlite3.Error, StoreError, OSError) as error:
            raise ValueError(f"the store {path} cannot be used ({error}): give another with --store") from error

    def charge(self, name: str, images: int, limits: Limits) -> Charged | Refused:
        """Charge images to an account, all or none; see `Ledger`."""
        with self._transaction():
            now = self._now()
            window = int(now // limits.window_s)
            rows = [
                (name, -1, limits.total),
                (EVERYBODY, -1, limits.everybody),
                (name, window, limits.rate),
                (EVERYBODY, window, limits.everybody_rate),
            ]
            for place, (who, when, limit) in enumerate(rows):
                had = self._images(who, when)
                if limit and had + images > limit:
                    return refusal(place, images, had, limit, int((window + 1) * limits.window_s - now) + 1)
            for who, when, _ in rows:
                self._db.execute(
                    "INSERT INTO pp_spent VALUES (?, ?, ?) "
                    "ON CONFLICT (name, window) DO UPDATE SET images = images + ?",
                    (who, when, images, images),
                )
            # What is past is of no use any more.
            self._db.execute("DELETE FROM pp_spent WHERE window >= 0 AND window < ?", (window - 1,))
        return Charged(name, images, window)

    def refund(self, charged: Charged) -> None:
        """Give back images of which nothing was answered."""
        with self._transaction():
            self._db.execute(
                "UPDATE pp_spent SET images = MAX(images - ?, 0) WHERE name IN (?, ?) AND window IN (-1, ?)",
                (charged.images, charged.name, EVERYBODY, charged.window),
            )

    def spent(self, name: str) -> int:
        """Images that an account has had, in all."""
        with self._safely():
            return self._images(name, -1)

    def keep(self, states: Mapping[str, bytes]) -> None:
        """Keep what is remembered of accounts."""
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO pp_kept VALUES (?, ?)", list(states.items()))

    def kept(self, name: str) -> bytes | None:
        """What was kept of an account; None for nothing."""
        with self._safely():
            row = self._db.execute("SELECT state FROM pp_kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _images(self, name: str, window: int) -> int:
        row = self._db.execute("SELECT images FROM pp_spent WHERE name = ? AND window = ?", (name, window)).fetchone()
        return 0 if row is None else int(row[0])

    def _now(self) -> float:
        """The time, which never goes back."""
        row = self._db.execute("SELECT latest FROM pp_clock").fetchone()
        now = max(self._clock(), 0.0 if row is None else float(row[0]))
        self._db.execute("INSERT OR REPLACE INTO pp_clock VALUES (1, ?)", (now,))
        return now

    @contextlib.contextmanager
    def _safely(self) -> Iterator[None]:
        """One thread at a time; what SQLite cannot do as a `StoreError`."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise StoreError(f"the store {self._path} failed: {error}") from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        with self._safely():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                # Also where the commit failed, as on a full disk; a transaction left open would refuse all later ones.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
