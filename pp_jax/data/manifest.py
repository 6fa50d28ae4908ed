"""`pp_jax.json`, the record beside a prepared set: where it came from and the SHA-256 of each of its files."""

import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pp_jax.data.types import DatasetCorrupt

NAME = "pp_jax.json"
DECODED = "decoded"
_TEXTS = ("name", "about", "source", "note", "prepared")
_CHUNK = 1 << 22


def arrays_digest(images: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 over the sorted SHA-256 of every image (H·W·C bytes) followed by its label (4 bytes, little-endian).

    It tells whether two sets hold the same labelled images, in whatever order.
    """
    suffixes = np.asarray(labels, "<i4")
    rows = (hashlib.sha256(image.tobytes() + label.tobytes()) for image, label in zip(images, suffixes, strict=True))
    return hashlib.sha256(b"".join(sorted(row.digest() for row in rows))).hexdigest()


def write(directory: Path, content: dict[str, Any]) -> None:
    """Write the record, with size and checksum of every file that is there now."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    listed = {path.relative_to(directory).as_posix(): _describe(path) for path in files}
    text = json.dumps({**content, "files": listed}, indent=2, ensure_ascii=False)
    (directory / NAME).write_text(text + "\n", encoding="utf-8")


def read(directory: Path) -> dict[str, Any] | None:
    """The record of a prepared set; None for a set that TFDS prepared.

    Raises:
        DatasetCorrupt: if the record is damaged.
    """
    path = directory / NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DatasetCorrupt(f"{path} is damaged ({error}); delete {directory} and prepare the set again") from error
    if not _is_record(content):
        raise DatasetCorrupt(f"{path} is not a record of this library; delete {directory} and prepare the set again")
    return content


def _is_record(content: Any) -> bool:
    """Whether parsed JSON has the entries of a record, in the types that `write` gives them."""
    return (
        isinstance(content, dict)
        and all(isinstance(content.get(name), str) for name in _TEXTS)
        and _is_mapping_of(content.get("splits"), {"sha256": str})
        and _is_mapping_of(content.get("files"), {"bytes": int, "sha256": str})
        and all(_is_name(name) for name in content["files"])
    )


def _is_mapping_of(value: Any, entries: dict[str, type]) -> bool:
    """Whether a value is a mapping of mappings with these entries."""
    return isinstance(value, dict) and all(
        isinstance(inner, dict) and all(isinstance(inner.get(name), kind) for name, kind in entries.items())
        for inner in value.values()
    )


def _is_name(name: str) -> bool:
    """Whether this can be the name of a file in a folder or in one inside it."""
    parts = name.split("/")
    return name.isprintable() and all(part not in ("", ".", "..") and len(part.encode()) < 256 for part in parts)


def check(directory: Path, content: dict[str, Any], names: Iterable[str]) -> None:
    """Check files of a prepared set against its record; a file is read once per process unless it changes.

    Raises:
        DatasetCorrupt: naming the first file that is missing, truncated or altered, and the cure.
    """
    for name in names:
        path, expected = directory / name, content["files"][name]
        cure = f"cure: python -m pp_jax.data prepare {content['name']} --force"
        if not path.is_file():
            raise DatasetCorrupt(f"{path} is missing from the prepared set; {cure}")
        stat = path.stat()
        if stat.st_size != expected["bytes"]:
            raise DatasetCorrupt(f"{path} has {stat.st_size} bytes instead of {expected['bytes']}; {cure}")
        if _digest(path, stat.st_mtime_ns) != expected["sha256"]:
            raise DatasetCorrupt(f"{path} was altered after it was written (its SHA-256 differs); {cure}")


def metadata_of(content: dict[str, Any]) -> list[str]:
    """The files that describe the set, as opposed to those that hold its images."""
    return [name for name in content["files"] if ".array_record" not in name and not name.startswith(DECODED)]


def files_of(content: dict[str, Any], split: str) -> list[str]:
    """The files that hold a split: its records and its decoded arrays."""
    stem = content["name"].partition("/")[0]
    wanted = (f"{stem}-{split}.array_record", f"{DECODED}/{split}_")
    return [name for name in content["files"] if name.startswith(wanted)]


def _describe(path: Path) -> dict[str, Any]:
    """Size and checksum of a file."""
    stat = path.stat()
    return {"bytes": stat.st_size, "sha256": _digest(path, stat.st_mtime_ns)}


@functools.lru_cache(maxsize=256)
def _digest(path: Path, mtime_ns: int) -> str:
    """SHA-256 of a file; the time of its last change is only there to tell versions of it apart."""
    del mtime_ns
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
