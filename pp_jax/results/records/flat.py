"""Records as rows of a table: nested entries under dotted names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pp_jax.results.records.record import Record

IMAGES = "examples"
"""The entry of a result that holds images; no table shows it."""


def row(record: Record) -> dict[str, Any]:
    """One record under dotted names such as ``config.defense.epsilon``.

    Args:
      record: any record.

    Returns:
      ``name`` (the hash), ``kind``, then ``config.*``, ``result.*`` without images, ``timings.*``, ``environment.*``;
      lists stay whole, an empty mapping has no entry.

    Raises:
      ValueError: two entries have one dotted name.
    """
    flat = {"name": record.path.stem, "kind": record.kind}
    result = {name: value for name, value in record.result.items() if name != IMAGES}
    sections = {
        "config": record.config, "result": result, "timings": record.timings, "environment": record.environment,
    }  # fmt: skip
    for name, value in _entries(sections, ""):
        if name in flat:
            raise ValueError(f"record {record.path} has two entries named {name}: a table cannot tell them apart")
        flat[name] = value
    return flat


def image_bytes(record: Record) -> int:
    """How much of a record's file is images, in bytes of JSON."""
    return len(json.dumps(record.result[IMAGES])) if IMAGES in record.result else 0


def names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The union of the rows' names: section by section, in the order of their first appearance."""
    union = dict.fromkeys(name for row in rows for name in row)
    sections = ["name", "kind", "config", "result", "timings", "environment"]
    return sorted(union, key=lambda name: sections.index(name.partition(".")[0]))


def varying(rows: Sequence[Mapping[str, Any]], section: str) -> list[str]:
    """The names of one section whose values differ between the rows (a missing one differs from every value)."""
    chosen = [name for name in names(rows) if name.startswith(f"{section}.")]
    return [name for name in chosen if any(row.get(name, ...) != rows[0].get(name, ...) for row in rows)]


def is_number(value: Any) -> bool:
    """Whether a value is an int or a float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _entries(value: Any, name: str) -> Iterable[tuple[str, Any]]:
    """Dotted names and values below a name."""
    if not isinstance(value, Mapping):
        yield name, value
        return
    for inner, item in value.items():
        yield from _entries(item, f"{name}.{inner}" if name else inner)
