"""Paths as their users mean them, files that are whole or absent, and which are ours: no other is ever removed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MARK = "written-by-pp_jax"
"""The file in every folder of ours that says so, and which files in it are ours."""
MARKDOWN = "<!-- pp_jax -->\n"
"""Ends our Markdown files; nobody sees it."""
PNG = {"Software": "pp_jax"}
"""The metadata of our figures."""
MARKS = {
    ".md": MARKDOWN.strip().encode(),
    ".png": b"Software\0pp_jax",
    ".html": b'<meta name="generator" content="pp_jax">',
    ".csv": b",environment.time",
    ".parquet": b"environment.time",
    ".safetensors": b"pp_jax.checkpoint/",
}
"""What every file of ours has at its beginning or end, by the ending of its name."""
_LOOKED_AT = 1 << 20  # bytes at either end of a file, in which its mark is
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


def write_bytes(path: str | os.PathLike[str], data: bytes, *, mark: bytes | None = None) -> Path:
    """Write a file atomically: readers see the old content or all of the new, also after a crash.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and then renamed onto ``path``.
    A process that is killed outright may leave its hidden ``.*.tmp`` file, which nothing reads.

    Args:
      path: where the file goes, ``~`` being the home folder; its folder is made when missing.
      data: the whole content.
      mark: what `data` has in it, and a file in its place must have as well, unless it is empty.

    Returns:
      The path.

    Raises:
      ValueError: a file without the mark is there; it stays.
      OSError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    path = expanded(path)
    if mark is not None:
        check_replaceable(path, mark=mark)
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


def check_replaceable(*paths: str | os.PathLike[str], mark: bytes | None = None) -> None:
    """Refuse files that are there and that we did not write, before work whose results would take their places.

    Args:
      paths: where results will go; a missing or empty file is free.
      mark: what every file of ours has at its beginning or end; by default the mark of its ending.

    Raises:
      ValueError: naming the file.
    """
    for path in map(Path, paths):
        try:
            with path.expanduser().open("rb") as file:
                data = file.read(_LOOKED_AT)
                file.seek(-min(_LOOKED_AT, file.seek(0, os.SEEK_END)), os.SEEK_END)
                data += file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):  # writing says what is wrong
            continue
        if data and (mark or MARKS[path.suffix]) not in data:
            raise ValueError(
                f"{path} is there and was not written by this version of pp_jax: it is left as it is; move it away, or "
                "give another path"
            )


def own_folder(path: str | os.PathLike[str], purpose: str, *, holds: Sequence[str]) -> Path:
    """Make a folder of our own, with our mark inside, or find it again.

    Args:
      path: the folder; what it is in is made when missing.
      purpose: what it keeps, in a few words.
      holds: patterns (`re`) of the relative paths of the files that we write there: all that `remove_own` removes.

    Returns:
      The path.

    Raises:
      ValueError: something else has this name; it stays as it is.
      OSError: the folder cannot be written.
    """
    path = Path(path).expanduser()
    if _holds(path, purpose) is None:
        # Made beside its place and renamed, mark and all: of two processes, none finds the folder without its mark.
        made = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        write_bytes(made / MARK, json.dumps({"keeps": purpose, "holds": list(holds)}).encode())
        try:
            made.rename(path)
        except OSError:  # there already, and not empty
            remove(made, [re.escape(MARK)])
        if _holds(path, purpose) is None:
            raise ValueError(
                f"{path} is there and keeps no {purpose} of ours: it is left as it is; move it away, or give another "
                "folder"
            )
    return path


def remove_own(path: str | os.PathLike[str]) -> None:
    """Remove the files that we wrote in a folder with our mark, and the folder if nothing else is in it.

    A folder without our mark stays as it is, unless it is empty: so a kill between the last two steps leaves it.
    """
    path = Path(path)
    holds = _holds(path)
    if holds is not None:
        remove(path, holds)
        with contextlib.suppress(FileNotFoundError):  # another process removes it too, and was first
            if [left.name for left in path.iterdir()] == [MARK]:
                remove(path, [re.escape(MARK)])
    if not path.is_symlink():
        with contextlib.suppress(OSError):  # something is in it, or it has gone
            path.rmdir()


def remove(folder: str | os.PathLike[str], patterns: Sequence[str]) -> None:
    """Remove the files below a folder whose relative paths match one of some patterns, and what this leaves empty.

    A pattern that ends in a slash is of empty folders. Links are not followed. What matches nothing stays, and so do
    the folders that it is in.
    """
    for inner, _, names in os.walk(folder, topdown=False):
        relative = Path(inner).relative_to(folder)
        for name in names:
            if _fits(relative / name, "", patterns):
                Path(inner, name).unlink(missing_ok=True)
        if inner == os.fspath(folder) or _fits(relative, "/", patterns) or _fits(relative / "any", "", patterns):
            with contextlib.suppress(OSError):  # something is in it
                Path(inner).rmdir()


def _fits(path: Path, ending: str, patterns: Sequence[str]) -> bool:
    return any(re.fullmatch(pattern, path.as_posix() + ending) for pattern in patterns)


def _holds(path: Path, purpose: str | None = None) -> list[str] | None:
    """What our mark in a folder says that it holds, or None where there is no mark (of this purpose)."""
    if path.is_symlink():
        return None
    try:
        mark = json.loads((path / MARK).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    fits = isinstance(mark, dict) and set(mark) == {"keeps", "holds"} and purpose in (None, mark["keeps"])
    patterns = mark["holds"] if fits else None
    return patterns if isinstance(patterns, list) and all(map(_is_pattern, patterns)) else None


def _is_pattern(value: Any) -> bool:
    """Whether this is a regular expression, of which Python has nothing to say."""
    try:
        with warnings.catch_warnings(action="error"):
            return isinstance(value, str) and bool(re.compile(value))
    except (re.error, RecursionError, OverflowError, Warning):
        return False


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
