"""Records as a CSV or Parquet file: a row a record, a column a dotted name."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pp_jax import _files
from pp_jax.results.records import flat
from pp_jax.results.records.record import Record

if TYPE_CHECKING:
    import pyarrow

_INT64 = range(-(2**63), 2**63)


def export(path: str | os.PathLike[str], records: Iterable[Record]) -> Path:
    """Write records as one table, atomically; images are left out.

    Columns are the union over the records, null where a record has no such entry. In Parquet ints, floats, bools,
    strings and lists of them keep their types; int beside float is float; any other mixture is text, where what is no
    string is JSON. In CSV null is an empty cell, lists are JSON, and floats have all their digits.

    Args:
      path: ends in ``.csv`` or ``.parquet``; its folder is made when missing.
      records: at least one.

    Returns:
      The path.

    Raises:
      ValueError: another ending, no records, two entries of a record under one dotted name, or a file that another
        program wrote is there.
      OSError: the file cannot be written.
    """
    encode = writer(path)
    rows = [flat.row(record) for record in records]
    if not rows:
        raise ValueError("records is empty: a table needs at least one record")
    data = encode({name: [row.get(name) for row in rows] for name in flat.names(rows)})
    return _files.write_bytes(path, data, mark=_files.MARKS[Path(path).suffix])


def writer(path: str | os.PathLike[str]) -> Callable[[Mapping[str, Sequence[Any]]], bytes]:
    """The encoder of columns that a file's ending asks for."""
    suffix = Path(path).suffix
    if suffix not in _WRITERS:
        raise ValueError(f"out is {os.fspath(path)}: must end in {' or '.join(_WRITERS)}")
    return _WRITERS[suffix]


def _csv(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """A header and a line a record, in UTF-8."""
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    lines.writerow(columns)
    lines.writerows(zip(*(map(_text, values) for values in columns.values()), strict=True))
    return text.getvalue().encode("utf-8", "backslashreplace")


def _parquet(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """A Parquet file with one row group for all."""
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table({name: _array(values) for name, values in columns.items()}), buffer)
    return buffer.getvalue()


_WRITERS: dict[str, Callable[[Mapping[str, Sequence[Any]]], bytes]] = {".csv": _csv, ".parquet": _parquet}


def _array(values: Sequence[Any]) -> pyarrow.Array:
    """One column in the narrowest type that keeps all its values."""
    import pyarrow

    kind = _kind(values)
    leaf = kind
    while leaf is not None and pyarrow.types.is_list(leaf):
        leaf = leaf.value_type
    if kind is None:
        kind, convert = pyarrow.string(), _text
    elif pyarrow.types.is_floating(leaf):
        convert = _floats
    else:
        convert = _unicode
    return pyarrow.array([None if value is None else convert(value) for value in values], kind)


def _kind(values: Iterable[Any]) -> pyarrow.DataType | None:
    """The type that all values have in common, or None where only text does."""
    import pyarrow

    present = [value for value in values if value is not None]
    types = {type(value) for value in present}
    if not types:
        return pyarrow.null()
    if types == {list}:
        inner = _kind(item for value in present for item in value)
        return None if inner is None else pyarrow.list_(inner)
    if types <= {int, float} and all(value in _INT64 for value in present if type(value) is int):
        return pyarrow.float64() if float in types else pyarrow.int64()
    if len(types) == 1:
        return {bool: pyarrow.bool_(), str: pyarrow.string()}.get(types.pop())
    return None


def _floats(value: Any) -> Any:
    """A number, or every number of nested lists, as float."""
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return None if value is None else float(value)


def _unicode(value: Any) -> Any:
    """A value whose strings have a UTF-8 form: what stands for an undecodable byte is escaped."""
    if isinstance(value, list):
        return [_unicode(item) for item in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _text(value: Any) -> str | None:
    """A string as it is, None as null, anything else as JSON."""
    if value is None or isinstance(value, str):
        return _unicode(value)
    return json.dumps(value)
