"""Result records: one JSON file a cell, named by the hash of the cell's configuration.

A sweep asks `find` before it computes a cell and calls `write` after it, so a killed sweep resumes where it stopped and
several workers can share one folder. Tables, plots and reports are made from records alone.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pp_jax import _files
from pp_jax._version import __version__

SCHEMA = 1
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
_MAPPINGS = ("config", "result", "timings", "environment")


@dataclasses.dataclass(frozen=True)
class Record:
    """One finished cell.

    Attributes:
      kind: what was measured, for instance ``"tradeoff"``.
      config: everything that determines the result; its hash names the file.
      result: the measurements.
      timings: seconds, by stage.
      environment: versions, device, machine, command, time of writing.
      path: the file it came from.
    """

    kind: str
    config: dict[str, Any]
    result: dict[str, Any]
    timings: dict[str, Any]
    environment: dict[str, Any]
    path: Path


class Damaged(ValueError):
    """A record file that cannot be trusted: not JSON, a field missing, or not the configuration its name says."""


def key(config: Mapping[str, Any]) -> str:
    """The name of a configuration: the first 16 hexadecimal digits of the SHA-256 of its canonical JSON.

    Formal guarantees: the order of entries, tuple or list, 1 or 1.0, and NumPy or Python scalars make no difference.
    A float32 counts as its shortest decimal, so ``np.float32(.1)`` and ``.1`` are one configuration.

    Args:
      config: nested mappings, dataclasses, sequences, str, int, finite float, bool, None and NumPy scalars.

    Returns:
      Sixteen hexadecimal digits.

    Raises:
      ValueError: a value has no canonical JSON form.
    """
    return _digest(_plain(config, "config"))


def write(
    folder: str | os.PathLike[str],
    *,
    kind: str,
    config: Mapping[str, Any],
    result: Mapping[str, Any],
    timings: Mapping[str, Any],
) -> Path:
    """Write the record of one cell atomically to ``folder/<key(config)>.json``.

    The environment (versions, device, machine, git revision, command, UTC time) is added. What tells two kinds of
    record apart must be part of the configuration, since that alone names the file.

    Args:
      folder: made when missing.
      kind: what was measured.
      config: everything that determines the result.
      result: measurements; finite numbers (None where there is no value).
      timings: seconds by stage.

    Returns:
      The path of the record.

    Raises:
      ValueError: a value has no JSON form, for instance NaN.
      OSError: the folder cannot be written or the disk is full; nothing half-written is left.
    """
    content = {"schema": SCHEMA, "kind": kind}
    for name, value in (("config", config), ("result", result), ("timings", timings)):
        content[name] = _plain(value, name)
    content["environment"] = environment()
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    return _files.write_bytes(Path(folder) / f"{_digest(content['config'])}.json", text.encode("ascii"))


def load(path: str | os.PathLike[str]) -> Record:
    """Read and check one record.

    Args:
      path: a file that `write` made.

    Returns:
      The record.

    Raises:
      Damaged: the file is no whole record of the configuration that its name says.
      OSError: the file cannot be read.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_bytes(), parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"not valid JSON ({error})") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise _damaged(path, f"not a record of schema {SCHEMA}")
    if not isinstance(content.get("kind"), str):
        raise _damaged(path, "field 'kind' must be a string")
    for name in _MAPPINGS:
        if not isinstance(content.get(name), dict):
            raise _damaged(path, f"field {name!r} must be an object")
    if (expected := _digest(content["config"])) != path.stem:
        raise _damaged(path, f"its configuration belongs to {expected}.json")
    return Record(kind=content["kind"], path=path, **{name: content[name] for name in _MAPPINGS})


def find(folder: str | os.PathLike[str], config: Mapping[str, Any]) -> Record | None:
    """The record of a configuration, or None when there is none yet (a damaged one counts as none, with a warning)."""
    path = Path(folder) / f"{key(config)}.json"
    return _load_or_warn(path) if path.exists() else None


def load_all(folder: str | os.PathLike[str], *, kind: str | None = None) -> list[Record]:
    """All whole records of a folder in the order of their names; damaged ones are left out, each with a warning.

    Args:
      folder: a folder of records; a missing one holds none.
      kind: only records of this kind.

    Returns:
      The records.
    """
    records = (_load_or_warn(path) for path in sorted(Path(folder).glob("*.json")))
    return [record for record in records if record is not None and kind in (None, record.kind)]


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Make a folder and prove that it takes a record, before long work starts (`OSError` naming it where not)."""
    _files.check_writable(folder)


def environment() -> dict[str, Any]:
    """What a reader needs to repeat a run: versions, device, machine, git revision, command, UTC time."""
    return {**_fixed_environment(), "time": datetime.now(UTC).isoformat(timespec="seconds")}


@functools.cache
def _fixed_environment() -> dict[str, Any]:
    """The part of the environment that a process cannot change."""
    import jax  # here, so that reading records does not wait for it

    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "versions": {"pp_jax": __version__, **versions, "python": platform.python_version()},
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "device_count": jax.device_count(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "git_revision": _git_revision(),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
    }


def _git_revision() -> str | None:
    """The commit this package runs from (``-dirty`` when edited), or None outside its own repository."""
    package = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # An environment inside another project's repository must not pass that project's commit off as ours.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != package.parent:
            return None
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _plain(value: Any, where: str) -> Any:
    """The value in JSON's own types, or a `ValueError` that says where it cannot be."""
    if isinstance(value, np.floating) and not isinstance(value, float):
        value = float(np.format_float_scientific(value))
    elif isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}: a record holds finite numbers only (None where there is no value)")
        return float(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        if wrong := [name for name in value if not isinstance(name, str)]:
            raise ValueError(f"{where} has the key {wrong[0]!r}: keys must be strings")
        return {str(name): _plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise ValueError(
        f"{where} is of type {type(value).__name__}: must be a mapping, dataclass, list, tuple, str, int, float, bool, "
        "None or NumPy scalar"
    )


def _canonical(value: Any) -> Any:
    """One form for equal numbers."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, list) else value


def _digest(plain: Any) -> str:
    """The hash behind `key`."""
    text = json.dumps(_canonical(plain), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _damaged(path: Path, reason: str) -> Damaged:
    return Damaged(f"record {path} is damaged: {reason}; delete it, or run its cell again, which replaces it")


def _load_or_warn(path: Path) -> Record | None:
    try:
        return load(path)
    except Damaged as error:
        warnings.warn(f"{error} (left out; it will be redone)", stacklevel=3)
        return None
