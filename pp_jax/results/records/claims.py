"""Who computes a cell: one process at a time, with no clock, no time-out and no server.

A claim is an operating-system lock (`flock`) on ``folder/.claims/<key>.lock``. The kernel drops it with its holder,
however that dies, so a claim is never stale. The empty lock files stay: to delete one under a waiting process would let
two processes hold one claim.

File systems differ. Linux passes `flock` on NFS on to the server, so a claim binds several machines; a mount with
``nolock`` or ``local_lock=flock``, and some parallel file systems, bind the processes of one machine only. Two machines
may then compute one cell twice; its record is still whole, and the last one stays. Where there are no locks at all,
`claim` raises an `OSError` instead of guessing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import filelock

from pp_jax import _files
from pp_jax.results.records import canonical
from pp_jax.results.records.record import Damaged, Record, find, load


@contextlib.contextmanager
def claim(folder: str | os.PathLike[str], config: Mapping[str, Any], *, wait: bool = False) -> Iterator[bool]:
    """Hold the right to compute a cell: ``with claim(folder, config) as mine``.

    Formal guarantees: of all processes and threads on a folder, at most one at a time has a cell; the claim of one that
    is killed is free at once.

    Args:
      folder: of the records; made when missing.
      config: of the cell.
      wait: block until the claim is free, instead of yielding False.

    Yields:
      True if this process may compute the cell now, False if another living one has it.

    Raises:
      OSError: the folder cannot be written, or its file system has no locks.
    """
    path = _files.expanded(folder) / ".claims" / f"{canonical.key(config)}.lock"
    if path.exists() and path.stat().st_size:  # the library would empty it
        raise OSError(errno.EEXIST, f"{path} is no lock of ours, which are empty: it is left as it is; move it away")
    # The library would otherwise replace a missing flock by files that outlive a killed process.
    lock = filelock.FileLock(path, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=wait)
    except filelock.Timeout:
        pass
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot claim {path} ({error.strerror}): its folder must be writable, on a file system with locks (flock)",
        ) from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


def once(
    folder: str | os.PathLike[str], config: Mapping[str, Any], compute: Callable[[], None], *, wait: bool = False
) -> Record | None:
    """The record of a cell, computed if need be, by one process of all that ask: find, claim, find again, compute.

    A damaged record is computed again, with a warning.

    Args:
      folder: of the records.
      config: of the cell.
      compute: does the work and calls `write` with this folder and configuration.
      wait: for a cell that another process is computing, instead of returning None.

    Returns:
      The record, or None if another process is computing it.

    Raises:
      ValueError: ``compute`` wrote no such record.
      OSError: the folder cannot be written, or its file system has no locks.
    """
    path = _files.expanded(folder) / f"{canonical.key(config)}.json"
    # A damaged record is reported by the process that redoes it, once.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, Damaged):
        return load(path)
    with claim(folder, config, wait=wait) as mine:
        if not mine:
            return None
        if (record := find(folder, config)) is not None:
            return record
        compute()
        if (record := find(folder, config)) is None:
            raise ValueError(f"compute wrote no record {path}: it must call records.write with the same configuration")
        return record
