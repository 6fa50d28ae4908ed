"""What a prediction API has answered, on disk: every batch as soon as it is there, so that none is paid for twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pp_jax import _files
from pp_jax.types import TransferSet

_PURPOSE = "answers of a prediction API"
_FOLDER = "pp_jax-answers"
_FILE = "queries.journal"
_HOLDS = ("lock", r"queries\.journal")


class Content(NamedTuple):
    """What a journal holds.

    Attributes:
        transfer: images and responses in the order of the queries, or None where there are none.
        spent: queries that were made, those of batches that were never answered included.
        end: bytes up to the end of the last whole entry; what follows was cut off by a kill.
        damaged: entries that are not what was written.
    """

    transfer: TransferSet | None
    spent: int
    end: int
    damaged: int


class Journal:
    """A journal that is being written; made by `opened`.

    Args:
        path: of the file.

    Raises:
        ValueError: an entry is not what was written; the file stays as it is.
    """

    def __init__(self, path: Path) -> None:
        content = _read(path)
        if content.damaged:
            raise ValueError(
                f"{path} has {content.damaged} damaged entries: move {path.parent} away; serving.Recorded of it "
                "answers what is whole"
            )
        self.transfer, self.spent = content.transfer, content.spent
        self._path, self._end = path, content.end

    def asking(self, count: int) -> None:
        """Note that so many images are about to be queried."""
        self.spent += count
        self._append({"asking": count})

    def answered(self, images: Any, answers: np.ndarray) -> None:
        """Keep images and their responses; on the disk when this returns.

        Raises:
            OSError: the disk is full; what was there before stays whole.
        """
        arrays = [np.ascontiguousarray(images), np.ascontiguousarray(answers)]
        forms = [[str(array.dtype), list(array.shape)] for array in arrays]
        data = b"".join(array.tobytes() for array in arrays)
        self._append({"answered": forms, "sha256": _digest(forms, data)}, data)

    def _append(self, header: dict[str, Any], data: bytes = b"") -> None:
        with self._path.open("r+b" if self._path.exists() else "xb") as file:
            file.truncate(self._end)  # what a kill cut off
            file.seek(self._end)
            try:
                file.write(json.dumps(header).encode() + b"\n" + data)
                file.flush()
                if data:
                    os.fsync(file.fileno())
            except OSError as error:
                with contextlib.suppress(OSError):
                    file.truncate(self._end)
                raise OSError(error.errno, f"cannot keep answers in {self._path} ({error.strerror})") from error
            self._end = file.tell()


@contextlib.contextmanager
def opened(folder: str | os.PathLike[str]) -> Iterator[Journal]:
    """The journal in a folder, made when missing; a second process waits for the first.

    Args:
        folder: of one journal, in a folder of its own, `pp_jax-answers`; what else is there stays.

    Yields:
        The journal.

    Raises:
        ValueError: something else has the name of our own folder (it stays as it is), or the journal is damaged.
        OSError: the folder cannot be written.
    """
    import filelock

    own = _files.own_folder(Path(folder) / _FOLDER, _PURPOSE, holds=_HOLDS)
    with filelock.FileLock(own / "lock", fallback_to_soft=False):
        yield Journal(own / _FILE)


def read(folder: str | os.PathLike[str]) -> Content:
    """What the journal of a folder holds, also while it is being written.

    Raises:
        ValueError: the folder has no journal.
    """
    path = _files.expanded(folder) / _FILE  # our own folder, moved away
    if not path.is_file():
        path = path.parent / _FOLDER / _FILE
    if not path.is_file():
        raise ValueError(f"{folder} has no answers: must be a folder that attacks.collect(…, folder=…) wrote")
    return _read(path)


def _read(path: Path) -> Content:
    """All whole entries of a file; a missing one has none."""
    data = path.read_bytes() if path.exists() else b""
    images: list[np.ndarray] = []
    answers: list[np.ndarray] = []
    spent, end, damaged = 0, 0, 0
    while (stop := data.find(b"\n", end) + 1) > 0:
        try:
            header = json.loads(data[end:stop])
            forms = header.get("answered", [])
            sizes = [np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64)) for dtype, shape in forms]
        except (ValueError, TypeError, AttributeError):
            damaged += 1
            break
        if stop + sum(sizes) > len(data):
            break
        payload = data[stop : stop + sum(sizes)]
        end = stop + sum(sizes)
        spent += header.get("asking", 0)
        if not forms:
            continue
        if header.get("sha256") != _digest(forms, payload):
            damaged += 1
            continue
        for array, part, (dtype, shape) in zip((images, answers), _cut(payload, sizes), forms, strict=True):
            array.append(np.frombuffer(part, np.dtype(dtype)).reshape(shape))
    transfer = TransferSet(np.concatenate(images), np.concatenate(answers)) if images else None
    return Content(transfer, spent, end, damaged)


def _cut(payload: bytes, sizes: list[int]) -> list[bytes]:
    return [payload[: sizes[0]], payload[sizes[0] :]]


def _digest(forms: Any, data: bytes) -> str:
    return hashlib.sha256(json.dumps(forms).encode() + data).hexdigest()
