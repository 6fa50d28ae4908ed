"""Records: one whole JSON file a cell, named by its configuration, or none."""

import dataclasses
import json
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pp_jax import records

CELL = {"kind": "tradeoff", "result": {"attacker_accuracy": 0.5}, "timings": {"total_s": 1.5}}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
CONFIGS = st.dictionaries(
    st.text(), st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
)


def reordered(value):
    """Every mapping backwards, every list a tuple."""
    if isinstance(value, dict):
        return {name: reordered(item) for name, item in reversed(value.items())}
    return tuple(map(reordered, value)) if isinstance(value, list) else value


@given(CONFIGS)
def test_key_depends_on_neither_order_nor_sequence_type_nor_a_trip_through_json(config):
    name = records.key(config)
    assert len(name) == 16
    assert set(name) <= set("0123456789abcdef")
    assert records.key(reordered(config)) == name
    assert records.key(json.loads(json.dumps(config))) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (0.0, -0.0),
        (0.1, np.float32(0.1)),
        (0.1, np.float64(0.1)),
        (0.5, ml_dtypes.bfloat16(0.5)),
        (3, np.int64(3)),
        (True, np.bool_(True)),
        ("a", np.str_("a")),
        ((1, 2), [1, 2]),
    ],
)
def test_equal_values_have_one_key(one, other):
    assert records.key({"x": one}) == records.key({"x": other})


@pytest.mark.parametrize(
    ("one", "other"), [(1, 2), (0.1, 0.10000000001), (1, True), (1, "1"), (0, None), ([1], 1), ({}, []), ("a", "A")]
)
def test_different_values_have_different_keys(one, other):
    assert records.key({"x": one}) != records.key({"x": other})


def test_key_of_a_dataclass_is_that_of_its_fields():
    @dataclasses.dataclass(frozen=True)
    class Attack:
        budget: int = 5
        rates: tuple[float, ...] = (0.5,)

    assert records.key({"attack": Attack()}) == records.key({"attack": {"rates": [0.5], "budget": 5}})


def test_key_is_stable_between_versions():
    # sha256sum of {"defense":{"epsilon":0.5,"name":"mad"},"seed":0}: another value would orphan every record on disk.
    assert records.key({"defense": {"name": "mad", "epsilon": 0.5}, "seed": 0}) == "40705ba3fd0f8c60"


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (float("nan"), "config.x is nan"),
        (np.float32("inf"), "config.x is inf"),
        ([1, {"y": -np.inf}], r"config.x\[1\].y is -inf"),
        (np.zeros(2), "config.x is of type ndarray"),
        (object(), "config.x is of type object"),
        (1j, "config.x is of type complex"),
        (np.datetime64("2020-01-01"), "config.x is of type date"),
        ({1: 2}, "config.x has the key 1: keys must be strings"),
        ({1, 2}, "config.x is of type set"),
    ],
)
def test_a_value_without_json_form_is_named(value, word, tmp_path):
    with pytest.raises(ValueError, match=word):
        records.key({"x": value})
    with pytest.raises(ValueError, match=word):
        records.write(tmp_path, **CELL, config={"x": value})
    assert list(tmp_path.iterdir()) == []


@given(CONFIGS)
def test_what_was_written_is_found(tmp_path_factory, config):
    folder = tmp_path_factory.mktemp("cells")
    path = records.write(folder, **CELL, config=config)
    record = records.find(folder, reordered(config))
    assert record == records.load(path)
    assert record.path == path == folder / f"{records.key(config)}.json"
    assert record.config == config
    assert (record.kind, record.result, record.timings) == ("tradeoff", CELL["result"], CELL["timings"])


def test_a_record_says_where_it_was_made(tmp_path):
    environment = records.load(records.write(tmp_path / "a" / "b", **CELL, config={})).environment
    assert set(environment["versions"]) == {"pp_jax", "jax", "jaxlib", "flax", "optax", "numpy", "python"}
    assert environment["cpu_count"] == os.cpu_count()
    assert environment["time"].endswith("+00:00")
    assert {"device", "backend", "device_count", "platform", "git_revision", "command"} <= set(environment)


def test_reading_records_loads_neither_jax_nor_what_makes_tables():
    heavy = ("jax", "pyarrow", "rich")
    code = f"import sys; from pp_jax import records; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_load_all_selects_by_kind_and_find_knows_what_is_absent(tmp_path):
    assert records.load_all(tmp_path / "missing") == []
    for seed in range(3):
        records.write(tmp_path, **{**CELL, "kind": "speed" if seed else "tradeoff"}, config={"seed": seed})
    assert len(records.load_all(tmp_path)) == 3
    assert [record.config for record in records.load_all(tmp_path, kind="tradeoff")] == [{"seed": 0}]
    assert records.find(tmp_path, {"seed": 9}) is None


def test_an_unwritable_folder_is_named_before_work_starts(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nowhere"):
        with pytest.raises(OSError, match=f"cannot write {folder}.*must be writable"):
            records.check_writable(folder)
        with pytest.raises(OSError, match=f"cannot write {folder}.*must be writable"):
            records.write(folder, **CELL, config={})
    records.check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
