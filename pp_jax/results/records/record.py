"""One record: its fields, how it is written whole, and how it is read and checked."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import secrets
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pp_jax import _files
from pp_jax.results.records import canonical
from pp_jax.results.records.provenance import environment

SCHEMA = 1
_MAPPINGS = ("config", "result", "timings", "environment")
_FIELDS = {"schema", "kind", *_MAPPINGS, "sha256"}


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
    """A record file that cannot be trusted: not JSON, a field missing, changed, or not of the configuration it names.

    Attributes:
      path: the file.
      reason: what is wrong with it.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    @property
    def named_as_ours(self) -> bool:
        """Whether the file has the name of a record; any other is somebody else's."""
        return re.fullmatch(r"[0-9a-f]{16}\.json", self.path.name) is not None

    def __str__(self) -> str:
        if self.named_as_ours:
            return (
                f"record {self.path} is damaged: {self.reason}; delete it, or run its cell again, which sets it aside"
            )
        return f"{self.path} is no record: {self.reason}; it is left as it is"


def write(
    folder: str | os.PathLike[str],
    *,
    kind: str,
    config: Mapping[str, Any],
    result: Mapping[str, Any],
    timings: Mapping[str, Any],
) -> Path:
    """Write the record of one cell atomically to ``folder/<key(config)>.json``.

    The environment (versions, device, machine, git revision, command, UTC time) and a checksum of everything are
    added. A damaged file in its place is not written over: it goes aside, under the same name with ``.damaged`` behind
    it. What tells two kinds of record apart must be part of the configuration, since that alone names the file.

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
    content: dict[str, Any] = {"schema": SCHEMA, "kind": kind}
    for name, value in (("config", config), ("result", result), ("timings", timings)):
        content[name] = canonical.plain(value, name)
    content["environment"] = environment()
    content["sha256"] = canonical.digest(content)
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    path = _files.expanded(folder) / f"{canonical.name(content['config'])}.json"
    _set_aside(path)
    return _files.write_bytes(path, text.encode("ascii"))


def load(path: str | os.PathLike[str]) -> Record:
    """Read and check one record.

    Formal guarantees: what is returned is what was written; a changed bit is an error or changes nothing that is read.
    (Records from before the checksum are held to their form and their configuration only.)

    Args:
      path: a file that `write` made.

    Returns:
      The record.

    Raises:
      Damaged: the file is no whole record of the configuration that its name says.
      OSError: the file cannot be read.
    """
    path = _files.expanded(path)
    data = path.read_bytes()
    try:
        content = json.loads(data, parse_float=_finite, parse_constant=_finite)
        fault = _fault(content, path.stem)
    except (ValueError, RecursionError) as error:
        raise Damaged(path, f"not valid JSON ({error})") from error
    if fault is not None:
        raise Damaged(path, fault)
    return Record(kind=content["kind"], path=path, **{name: content[name] for name in _MAPPINGS})


def find(folder: str | os.PathLike[str], config: Mapping[str, Any]) -> Record | None:
    """The record of a configuration, or None when there is none yet (a damaged one counts as none, with a warning)."""
    try:
        return load(Path(folder) / f"{canonical.key(config)}.json")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Damaged as error:
        _warn(error, stacklevel=3)
        return None


def load_all(folder: str | os.PathLike[str], *, kind: str | None = None) -> list[Record]:
    """All whole records of a folder in the order of their names; damaged ones are left out, each with a warning.

    Args:
      folder: a folder of records; a missing one holds none.
      kind: only records of this kind.

    Returns:
      The records.
    """
    records = []
    for each in scan(folder):
        if isinstance(each, Damaged):
            _warn(each, stacklevel=3)
        elif kind in (None, each.kind):
            records.append(each)
    return records


def scan(folder: str | os.PathLike[str]) -> Iterator[Record | Damaged]:
    """Every record of a folder in the order of their names, a damaged one as its error."""
    for path in sorted(_files.expanded(folder).glob("*.json")):
        try:
            yield load(path)
        except Damaged as error:
            yield error


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Make a folder and prove that it takes a record, before long work starts (`OSError` naming it where not)."""
    _files.check_writable(folder)


def _set_aside(path: Path) -> None:
    """Rename a file that has a record's name and is none, unless it is empty: somebody may have written it."""
    try:
        load(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except Damaged:
        if path.stat().st_size:
            path.rename(path.with_name(f"{path.name}.{secrets.token_hex(4)}.damaged"))


def _fault(content: Any, name: str) -> str | None:
    """What keeps parsed JSON from being the record of a name, if anything does."""
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        return f"not a record of schema {SCHEMA}"
    if not isinstance(content.get("kind"), str):
        return "field 'kind' must be a string"
    for field in _MAPPINGS:
        if not isinstance(content.get(field), dict):
            return f"field {field!r} must be an object"
    if (expected := canonical.name(content["config"])) != name:
        return f"its configuration belongs to {expected}.json"
    # A checksum under a misspelt name must not pass for a record without one.
    if unknown := content.keys() - _FIELDS:
        return f"schema {SCHEMA} has no field {min(unknown)!r}"
    checksum = content.pop("sha256", ...)
    if checksum is not ... and checksum != canonical.digest(content):
        return "its content is not what was written (the checksum differs)"
    return None


def _finite(text: str) -> float:
    """A number of JSON, which knows neither NaN nor what lies beyond the largest float."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no finite number")
    return number


def _warn(error: Damaged, *, stacklevel: int) -> None:
    text = f"{error} (left out; it will be redone)" if error.named_as_ours else str(error)
    warnings.warn(text, stacklevel=stacklevel + 1)


def discard(partial: str | os.PathLike[str]) -> None:
    """Remove what a killed or finished run kept on its way, in ``folder/<key>.partial``; any other path stays.

    Only folders with our mark inside are removed, and only what we wrote in them; the folder goes when it is empty.

    Args:
      partial: that folder; a missing one is removed already.
    """
    path = _files.expanded(partial)
    if re.fullmatch(r"[0-9a-f]{16}\.partial", path.name) and path.is_dir() and not path.is_symlink():
        with contextlib.suppress(FileNotFoundError):  # another process removes it too, and was first
            for inner in list(path.iterdir()):
                _files.remove_own(inner)
        with contextlib.suppress(OSError):  # something else is in it
            path.rmdir()
