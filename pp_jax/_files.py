"""Paths as their users mean them, and files that are whole or absent, never half-written."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

_PROBE_BYTES = 1 << 18  # a record with its example images is smaller


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path as its user means it: a leading ``~`` is the home folder, also where no shell has expanded it.

    Args:
      path: as it was given; every public function that takes one calls this first.

    Returns:
      The path with the home folder in full.

    Raises:
      ValueError: it begins with ``~`` and this machine knows no such home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"path is {os.fspath(path)!r}, and its home folder is not known here: write the path in full, or set HOME"
        ) from error


def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write a file atomically: readers see the old content or all of the new, also after a crash.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and then renamed onto ``path``.
    A process that is killed outright may leave its hidden ``.*.tmp`` file, which nothing reads.

    Args:
      path: where the file goes, ``~`` being the home folder; its folder is made when missing.
      data: the whole content.

    Returns:
      The path.

    Raises:
      OSError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    path = expanded(path)
    # The random part lets two workers write the same file at the same time: the last one wins, whole.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return path


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Make a folder and prove that it takes a file, before long work starts.

    Args:
      folder: made when missing.

    Raises:
      OSError: the folder cannot be made or written, or its disk is full.
    """
    probe = expanded(folder) / f"probe-{secrets.token_hex(4)}"
    write_bytes(probe, bytes(_PROBE_BYTES))
    probe.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(error: OSError, path: Path) -> OSError:
    """The same error, saying what the path needs."""
    return OSError(
        error.errno,
        f"cannot write {path} ({error.strerror}): its folder must be writable, with room for the whole file; "
        "nothing was left half-written",
    )
