"""Budgets in images, per account and in all, in total and per window: durable, and exact to the image.

An image is charged before it is answered and given back only where nothing of the answer was sent, so a process that
dies never gives back what was answered; what was in flight stays charged.
"""

import contextlib
import dataclasses
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
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


@dataclasses.dataclass(frozen=True)
class Refused:
    """Why images were not granted.

    Attributes:
        reason: in one line.
        retry_after: seconds until it may be tried again; None where it never may.
    """

    reason: str
    retry_after: int | None


class Ledger(Protocol):
    """Who has had how many images; shared by everything that answers."""

    def charge(self, name: str, images: int, limits: Limits) -> Refused | None:
        """Charge images to an account, all or none; None when they were granted."""

    def refund(self, name: str, images: int, limits: Limits) -> None:
        """Give back images of which nothing was answered."""

    def spent(self, name: str) -> int:
        """Images that an account has had, in all."""

    def keep(self, name: str, state: bytes) -> None:
        """Keep what is remembered of an account."""

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
        except (sqlite3.Error, OSError) as error:
            raise ValueError(f"the store {path} cannot be used ({error}): give another with --store") from error

    def charge(self, name: str, images: int, limits: Limits) -> Refused | None:
        """Charge images to an account, all or none; see `Ledger`."""
        with self._transaction():
            now = self._now()
            window = int(now // limits.window_s)
            rows = [
                (name, -1, limits.total, "the account's budget", None),
                (EVERYBODY, -1, limits.everybody, "the service's budget", None),
                (name, window, limits.rate, "the account's rate", limits.window_s),
                (EVERYBODY, window, limits.everybody_rate, "the service's rate", limits.window_s),
            ]
            for who, when, limit, what, length in rows:
                had = self._images(who, when)
                if limit and had + images > limit:
                    left = max(0, limit - had)
                    wait = None if length is None or images > limit else int((window + 1) * length - now) + 1
                    return Refused(f"{images} images asked, but {left} of {what} of {limit} are left", wait)
            for who, when, _, _, _ in rows:
                self._add(who, when, images)
            # What is past is of no use any more.
            self._db.execute("DELETE FROM pp_spent WHERE window >= 0 AND window < ?", (window - 1,))
        return None

    def refund(self, name: str, images: int, limits: Limits) -> None:
        """Give back images of which nothing was answered."""
        with self._transaction():
            window = int(self._now() // limits.window_s)
            for who in (name, EVERYBODY):
                for when in (-1, window):
                    self._add(who, when, -images)

    def spent(self, name: str) -> int:
        """Images that an account has had, in all."""
        with self._lock:
            return self._images(name, -1)

    def keep(self, name: str, state: bytes) -> None:
        """Keep what is remembered of an account."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO pp_kept VALUES (?, ?)", (name, state))

    def kept(self, name: str) -> bytes | None:
        """What was kept of an account; None for nothing."""
        with self._lock:
            row = self._db.execute("SELECT state FROM pp_kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _images(self, name: str, window: int) -> int:
        row = self._db.execute("SELECT images FROM pp_spent WHERE name = ? AND window = ?", (name, window)).fetchone()
        return 0 if row is None else int(row[0])

    def _add(self, name: str, window: int, images: int) -> None:
        self._db.execute(
            "INSERT INTO pp_spent VALUES (?, ?, MAX(?, 0)) ON CONFLICT (name, window) "
            "DO UPDATE SET images = MAX(images + ?, 0)",
            (name, window, images, images),
        )

    def _now(self) -> float:
        """The time, which never goes back."""
        row = self._db.execute("SELECT latest FROM pp_clock").fetchone()
        now = max(self._clock(), 0.0 if row is None else float(row[0]))
        self._db.execute("INSERT OR REPLACE INTO pp_clock VALUES (1, ?)", (now,))
        return now

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
