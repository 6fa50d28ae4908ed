"""Where prepared sets lie: `<data_dir>/<name>[/<config>]/<version>`, as TFDS lays them out."""

import fnmatch
import json
import os
import re
from pathlib import Path

from pp_jax import _files
from pp_jax.data import manifest
from pp_jax.data.types import DataError

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_WRITTEN = ("*.json", "*.labels.txt", "*.array_record-*", f"{manifest.DECODED}/*.npy")


def data_dir(given: str | os.PathLike[str] | None = None) -> Path:
    """The data directory: the one given, else $TFDS_DATA_DIR, else ~/tensorflow_datasets, as for TFDS."""
    return _files.expanded(given or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").absolute()


def prepared(root: Path, name: str, version: str = "*") -> Path | None:
    """The directory of a set's newest version that can be read, else of its newest version; None if there is none.

    Args:
        root: the data directory.
        name: the set, with its configuration if it has one.
        version: which versions count, e.g. "3.0.1" or "3.*.*".
    """
    folder = root / name
    found = [path for path in folder.iterdir() if _is_prepared(path)] if folder.is_dir() else []
    versions = [path for path in found if fnmatch.fnmatchcase(path.name, version)]
    return max(
        versions,
        key=lambda path: (file_format(path) == "array_record", tuple(map(int, path.name.split(".")))),
        default=None,
    )


def file_format(directory: Path) -> str:
    """The format that a prepared set's records are stored in; "array_record" where its description is damaged."""
    try:
        described = json.loads((directory / "dataset_info.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "array_record"
    return str(described.get("fileFormat", "tfrecord")) if isinstance(described, dict) else "array_record"


def standing(directory: Path) -> str:
    """A prepared set's version, and its format if that cannot be read."""
    stored = file_format(directory)
    return directory.name if stored == "array_record" else f"{directory.name} as {stored}, not readable"


def check_replaceable(directory: Path, name: str) -> None:
    """Refuse to put a set where something lies that this library did not write; what it wrote carries its record.

    Args:
        directory: the version directory that the set is to get.
        name: the set, for the cure.

    Raises:
        DataError: naming what is there, and how to prepare the set beside it.
    """
    if not os.path.lexists(directory):
        return
    if not (directory / manifest.NAME).is_file():
        raise DataError(f"{directory} {_origin(directory)} and is left as it is; {beside(name)}")
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir())
    foreign = [name for name in names if not any(fnmatch.fnmatchcase(name, known) for known in _WRITTEN)]
    foreign = [name for name in foreign if not name.rpartition("/")[2].startswith(".")]
    if foreign:
        raise DataError(
            f"{directory} also holds files that are no part of the set ({', '.join(foreign[:3])}), "
            "which replacing it would delete: move them away first"
        )


def beside(name: str) -> str:
    """The cure of a set that must not, or cannot, be used where it is."""
    return (
        f"cure: a data directory of its own, python -m pp_jax.data prepare {name} --data-dir DIR, "
        "and TFDS_DATA_DIR=DIR wherever it is loaded"
    )


def all_prepared(root: Path) -> dict[str, Path]:
    """Every prepared set below a data directory, by name."""
    folders = [path for pattern in ("[!.]*", "[!.]*/[!.]*") for path in root.glob(pattern) if path.is_dir()]
    names = [path.relative_to(root).as_posix() for path in folders]
    found = {name: prepared(root, name) for name in names}
    return {name: path for name, path in sorted(found.items()) if path is not None}


def make_writable(root: Path) -> None:
    """Create a data directory.

    Raises:
        DataError: if it cannot be created or written to.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"the data directory {root} cannot be created ({error.strerror}): choose another with --data-dir"
        ) from error
    if not os.access(root, os.W_OK | os.X_OK):
        raise DataError(f"the data directory {root} is not writable: choose another with --data-dir")


def _origin(directory: Path) -> str:
    """What a directory is that this library did not write."""
    if not _is_prepared(directory):
        return "was not written by this library"
    stored = file_format(directory)
    return f"was prepared by TFDS as {stored}" + (
        "" if stored == "array_record" else ", which cannot be read without TensorFlow,"
    )


def _is_prepared(path: Path) -> bool:
    """Whether a directory is a whole prepared set: TFDS renames one to its version only when it is written."""
    described = any((path / name).is_file() for name in ("dataset_info.json", manifest.NAME))
    return described and _VERSION.fullmatch(path.name) is not None
