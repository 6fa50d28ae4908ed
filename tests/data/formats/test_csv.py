"""Tables of MNIST as Kaggle and others hand them out."""

import numpy as np
import pytest

from pp_jax.data.files import merge
from pp_jax.data.formats import csv
from pp_jax.data.labels import DIGITS
from pp_jax.data.types import DatasetCorrupt

SHAPE = (3, 4, 1)
PIXELS = np.random.default_rng(0).integers(2, 256, (5, 3, 4, 1), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5])
WITH_LABELS_LAST = np.column_stack([PIXELS.reshape(5, 12), LABELS])
HEADING = "label," + ",".join(f"pixel{index}" for index in range(12))


def table(heading: str = "", *, labelled: bool = True, rows=None) -> bytes:
    cells = PIXELS.reshape(5, 12) if rows is None else rows
    if labelled:
        cells = np.column_stack([LABELS[: len(cells)], cells])
    lines = [heading] * bool(heading) + [",".join(map(str, row)) for row in cells.tolist()]
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize(
    "data",
    [
        table(HEADING),
        table(),
        b"\xef\xbb\xbf" + table(HEADING),
        table(HEADING).replace(b"\n", b"\r\n"),
        table('"label",' + ",".join(f'"{row}x{column}"' for row in range(3) for column in range(4))),
        table(HEADING, rows=PIXELS.reshape(5, 12).astype(float)),
        table(
            ",".join(f"p{index}" for index in range(12)) + ",class",
            labelled=False,
            rows=WITH_LABELS_LAST,
        ),
    ],
)
def test_tables_with_and_without_heading_are_read(data):
    raw = csv.read(merge("folder", {"mnist_train.csv": data}), SHAPE, DIGITS)
    np.testing.assert_array_equal(raw.splits["train"][0], PIXELS)
    np.testing.assert_array_equal(raw.splits["train"][1], LABELS)


def test_kaggles_test_table_without_labels_is_told():
    parts = {"train.csv": table(HEADING), "test.csv": table(HEADING[6:], labelled=False)}
    raw = csv.read(merge("folder", parts), SHAPE, DIGITS)
    assert list(raw.splits) == ["train"]
    assert raw.left_out == ("5 images of folder/test.csv, which have no labels",)
    del parts["train.csv"]
    with pytest.raises(DatasetCorrupt, match=r"no table with labels \(left out: 5 images of folder/test.csv"):
        csv.read(merge("folder", parts), SHAPE, DIGITS)


def test_two_tables_are_two_splits():
    raw = csv.read(merge("folder", {"mnist_train.csv": table(), "mnist_test.csv": table()}), SHAPE, DIGITS)
    assert {split: len(labels) for split, (_, labels) in raw.splits.items()} == {"train": 5, "test": 5}
    with pytest.raises(DatasetCorrupt, match="several tables of the split train"):
        csv.read(merge("folder", {"a_train.csv": table(), "b_train.csv": table()}), SHAPE, DIGITS)


def test_of_several_sets_the_sets_own_tables_are_read():
    parts = {f"emnist-{config}-train.csv": table() for config in ("letters", "balanced")}
    raw = csv.read(merge("folder", parts), SHAPE, DIGITS, "emnist/letters")
    assert len(raw.splits["train"][1]) == 5
    assert raw.left_out == ("1 table of another set (emnist-balanced-train.csv)",)


def damaged(change) -> bytes:
    lines = table(HEADING).decode().splitlines()
    lines[2] = change(lines[2])
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (damaged(lambda row: row.replace(",", ",x", 1)), "line 3 holds 'x"),
        (damaged(lambda row: row.rpartition(",")[0]), "line 3 has 12 columns where the first has 13"),
        (damaged(lambda row: row.replace(",", ",,", 1)), "line 3 has 14 columns"),
        (damaged(lambda row: row.rpartition(",")[0] + ","), "line 3 holds ''"),
        (damaged(lambda row: row.rpartition(",")[0] + ",-3"), "values from -3"),
        (damaged(lambda row: row.rpartition(",")[0] + ",300"), "to 300"),
        (damaged(lambda row: row.rpartition(",")[0] + ",99999999999"), r"to 1e\+11"),
        (damaged(lambda row: row.rpartition(",")[0] + ",nan"), "values from nan"),
        (damaged(lambda row: "-1" + row[1:]), "labels from -1"),
        (HEADING.encode(), "0 whole rows"),
        (b"", "has 1 columns, where an image has 12 pixels"),
        (table(HEADING).replace(b",", b";"), "has 1 columns, where an image has 12 pixels"),
        (table(HEADING.replace("label", "digit")), "none is called label"),
    ],
)
def test_a_bad_cell_is_one_error_that_names_it(data, message):
    with pytest.raises(DatasetCorrupt, match=message):
        csv.read(merge("folder", {"train.csv": data}), SHAPE, DIGITS)
