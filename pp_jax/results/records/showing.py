"""Records for a terminal: a table of many, the whole of one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pp_jax.results.records import flat
from pp_jax.results.records.record import Record

if TYPE_CHECKING:
    from rich.table import Table

_RESULTS = 6  # columns of results that a table has room for
_WIDTH = 100  # characters of one value


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """One table a kind: name, what differs between the configurations, the results that differ, and the date.

    Args:
      records: of any kinds.

    Yields:
      Tables for ``rich.print``, in the order of the kinds' names; rows in the order of their configurations.
    """
    for kind in sorted({record.kind for record in records}):
        yield _table(kind, [flat.row(record) for record in records if record.kind == kind])


def describe(record: Record) -> Iterator[str]:
    """The whole record but its images, line by line: configuration, results, timings, environment.

    Args:
      record: any record.

    Yields:
      Lines without a line break.
    """
    yield f"{record.kind} {record.path.stem} ({record.path})"
    entries = flat.row(record)
    for section, title in _SECTIONS.items():
        inside = {name.partition(".")[2]: value for name, value in entries.items() if name.startswith(f"{section}.")}
        yield ""
        yield title
        width = max(map(len, inside), default=0)
        for name, value in inside.items():
            yield f"  {name:{width}}  {_value(value)}"
        if section == "result" and flat.IMAGES in record.result:
            yield f"  ({flat.IMAGES}, images of {flat.image_bytes(record):,} bytes, are left out)"


_SECTIONS = {"config": "configuration", "result": "results", "timings": "timings", "environment": "environment"}


def _table(kind: str, rows: list[dict[str, Any]]) -> Table:
    """The rows of one kind, with the columns that tell them apart."""
    from rich import box, table
    from rich.text import Text

    settings = flat.varying(rows, "config")
    numbers = _numbers(rows)
    shown = numbers[:_RESULTS]
    more = f"{len(numbers) - len(shown)} more results: show or export them" if len(numbers) > len(shown) else None
    title = Text(f"{kind} ({len(rows)})")
    lines = table.Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", caption=more, caption_justify="left")
    lines.pad_edge, lines.padding = False, (0, 1, 0, 0)
    for name in ["name", *settings, *shown, "written (UTC)"]:
        numeric = all(flat.is_number(row.get(name, 0)) for row in rows)
        lines.add_column(Text(_heading(name)), justify="right" if numeric else "left", no_wrap=True)
    for row in sorted(rows, key=lambda row: [_rank(row.get(name)) for name in settings]):
        date = str(row.get("environment.time", "–"))[:16].replace("T", " ")
        lines.add_row(row["name"], *(Text(_cell(row.get(name))) for name in [*settings, *shown]), date)
    return lines


def _heading(name: str) -> str:
    """A dotted name without its section, in lines as narrow as numbers are."""
    return name.partition(".")[2].replace(".", ".\n").replace("_", "_\n") or name


def _numbers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The undivided results that are numbers: those that differ, or all of a single record."""
    chosen = flat.varying(rows, "result") if len(rows) > 1 else [name for name in rows[0] if name.startswith("result.")]
    return [name for name in chosen if name.count(".") == 1 and any(flat.is_number(row.get(name)) for row in rows)]


def _rank(value: Any) -> tuple[int, float, str]:
    """An order of all values: none, numbers by size, the rest by their text."""
    if value is None:
        return (0, 0, "")
    return (1, value, "") if flat.is_number(value) else (2, 0, str(value))


def _cell(value: Any) -> str:
    """A value in a table."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else _value(value)


def _value(value: Any) -> str:
    """A value in full, a long list from its beginning."""
    text = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, list) and len(text) > _WIDTH:
        return f"{text[: _WIDTH - 1]}… ({len(value)} entries)"
    return text
