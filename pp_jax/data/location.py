"""Where prepared sets lie: `<data_dir>/<name>[/<config>]/<version>`, as TFDS lays them out."""

import os
import re
from pathlib import Path

from pp_jax import _files
from pp_jax.data import manifest
from pp_jax.data.types import DataError

_VERSION = re.compile(r"\d+\.\d+\.\d+")


def data_dir(given: str | os.PathLike[str] | None = None) -> Path:
    """The data directory: the one given, else $TFDS_DATA_DIR, else ~/tensorflow_datasets, as for TFDS."""
    return _files.expanded(given or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").absolute()


def prepared(root: Path, name: str) -> Path | None:
    """The directory of the newest prepared version of a set; None if there is none."""
    folder = root / name
    versions = [path for path in folder.iterdir() if _is_prepared(path)] if folder.is_dir() else []
    return max(versions, key=lambda path: tuple(map(int, path.name.split("."))), default=None)


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


def _is_prepared(path: Path) -> bool:
    """Whether a directory is a whole prepared set: TFDS renames one to its version only when it is written."""
    described = any((path / name).is_file() for name in ("dataset_info.json", manifest.NAME))
    return described and _VERSION.fullmatch(path.name) is not None
