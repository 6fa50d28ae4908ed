"""An exported table, read back, is the records."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from generated_cells import write_all
from pp_jax import records
from pp_jax.results.records import exporting, flat

SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(SCALARS | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=6)
RESULTS = st.lists(st.dictionaries(st.sampled_from("abc"), VALUES), min_size=1, max_size=4)


def written(folder, *results):
    for seed, result in enumerate(results):
        records.write(folder, kind="k", config={"seed": seed}, result=result, timings={})
    return sorted(records.load_all(folder), key=lambda record: record.config["seed"])


def column(tmp_path, *values):
    """One result of several records as Parquet has it: its type and its values."""
    cells = written(tmp_path / "cells", *({"x": value} for value in values))
    table = parquet.read_table(exporting.export(tmp_path / "t.parquet", cells))
    return str(table.schema.field("result.x").type), table["result.x"].to_pylist()


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ((1, 2), "int64", [1, 2]),
        ((1, None), "int64", [1, None]),
        ((1, 2.5), "double", [1.0, 2.5]),
        ((2**53 + 1, 2.5), "double", [2.0**53, 2.5]),
        ((2**70, 1), "string", [str(2**70), "1"]),
        ((True, False), "bool", [True, False]),
        ((True, 1), "string", ["true", "1"]),
        (("a", "1"), "string", ["a", "1"]),
        (("a", 1), "string", ["a", "1"]),
        (("a", 0.1), "string", ["a", "0.1"]),
        (([1, 2], []), "list<element: int64>", [[1, 2], []]),
        (([1, 2.5], None), "list<element: double>", [[1.0, 2.5], None]),
        (([[1], [2.5, None]], []), "list<element: list<element: double>>", [[[1.0], [2.5, None]], []]),
        (([1], 1), "string", ["[1]", "1"]),
        (([1, "a"], None), "string", ['[1, "a"]', None]),
        (([{"y": 1}], None), "string", ['[{"y": 1}]', None]),
        ((None, None), "null", [None, None]),
    ],
)
def test_a_parquet_column_has_the_narrowest_type_that_keeps_its_values(tmp_path, values, kind, read):
    assert column(tmp_path, *values) == (kind, read)


def same(read, value):
    """Whether a Parquet cell holds a value, as itself or as text."""
    text = value if isinstance(value, str) or value is None else json.dumps(value)
    return read in (value, text) or (isinstance(value, int) and read == float(value))


@given(RESULTS)
def test_every_record_survives_both_forms(tmp_path_factory, results):
    folder = tmp_path_factory.mktemp("t")
    rows = [flat.row(record) for record in written(folder, *results)]
    cells = sorted(records.load_all(folder), key=lambda record: record.config["seed"])
    table = parquet.read_table(exporting.export(folder / "t.parquet", cells))
    assert table.num_rows == len(rows)
    assert set(table.column_names) == {name for row in rows for name in row}
    for read, row in zip(table.to_pylist(), rows, strict=True):
        assert all(same(read[name], row.get(name)) for name in read), (read, row)
    with open(exporting.export(folder / "t.csv", cells), encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    for read, row in zip(lines, rows, strict=True):
        for name, cell in read.items():
            value = row.get(name)
            assert (
                cell == "" if value is None else cell == value if isinstance(value, str) else json.loads(cell) == value
            )


def test_a_sweep_survives_with_dotted_columns_and_without_images(tmp_path):
    cells = write_all(tmp_path / "cells", seeds=(0, 1))
    table = parquet.read_table(exporting.export(tmp_path / "t.parquet", cells))
    assert table.column_names[:3] == ["name", "kind", "config.victim.dataset"]
    assert table["name"].to_pylist() == [cell.path.stem for cell in cells]
    assert table["config.defense.epsilon"].to_pylist() == [cell.config["defense"].get("epsilon") for cell in cells]
    assert table["result.query_l1.mean"].to_pylist() == [cell.result["query_l1"]["mean"] for cell in cells]
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert types["config.seed"] == types["config.defense.k"] == "int64"
    assert types["config.defense.epsilon"] == "double"
    assert not [name for name in types if "examples" in name]


def test_a_byte_that_is_no_text_is_escaped(tmp_path):
    # A command line may hold one, as a lone surrogate.
    assert column(tmp_path, "a\udcff")[1] == ["a\\udcff"]
    cells = records.load_all(tmp_path / "cells")
    assert b"a\\udcff" in exporting.export(tmp_path / "t.csv", cells).read_bytes()


def test_two_entries_with_one_dotted_name_are_refused(tmp_path):
    cells = written(tmp_path, {"a.b": 1, "a": {"b": 2}})
    with pytest.raises(ValueError, match=r"two entries named result\.a\.b"):
        exporting.export(tmp_path / "t.csv", cells)


def test_nothing_to_export_and_an_unknown_ending_are_refused(tmp_path):
    with pytest.raises(ValueError, match="records is empty"):
        exporting.export(tmp_path / "t.csv", [])
    with pytest.raises(ValueError, match=r"out is t.xlsx: must end in .csv or .parquet"):
        exporting.export("t.xlsx", [])
