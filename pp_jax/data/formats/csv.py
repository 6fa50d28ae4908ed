"""Tables of one image a row, as Kaggle hands out MNIST and its like: a label and the pixels, row by row."""

import io
import re
import warnings
from pathlib import PurePosixPath

import numpy as np

from pp_jax.data.files import Files, unpacked_name
from pp_jax.data.formats import arrays, naming
from pp_jax.data.phrases import counted
from pp_jax.data.spec import Shape
from pp_jax.data.types import DatasetCorrupt, Raw

_LABELS = ("label", "labels", "class", "target", "y")
_SPLITS = {"train": "train", "test": "test", "valid": "validation", "val": "validation"}


def read(files: Files, shape: Shape, classes: tuple[str, ...] | None = None, set_name: str = "") -> Raw:
    """Read `…train….csv`, `…test….csv`: a column `label` and one column a pixel; without a heading, the label first.

    A table without labels, such as the test.csv of Kaggle's competitions, is left out.

    Args:
        files: the files of a folder or an archive, or one file.
        shape: (H, W, C) of an image; one channel.
        classes: the class names, where the set is a known one.
        set_name: the set; of several sets' tables in one folder, those that begin with it count.

    Raises:
        DatasetCorrupt: if a row has more or fewer columns, a cell is no pixel, or no table has labels.
    """
    side = (shape[0] or 0) * (shape[1] or 0)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    names = [name for name in files.names if unpacked_name(name).endswith(".csv")]
    own = [name for name in names if naming.letters(PurePosixPath(name).name).startswith(naming.letters(set_name))]
    left_out = list(
        counted([name for name in names if own and name not in own], "table of another set", "tables of other sets")
    )
    for name in own or names:
        where = files.where(name)
        table, label = _table(files.read(name), where, side)
        if label is None:
            left_out.append(f"{len(table)} images of {where}, which have no labels")
            continue
        split = _split(name)
        if split in found:
            raise DatasetCorrupt(
                f"{files.origin} holds several tables of the split {split}, {where} among them: name one"
            )
        pixels = arrays.images(np.delete(table, label, axis=1), shape, f"the pixels of {where}")
        found[split] = (pixels, arrays.labels(table[:, label], len(table), f"the column of labels of {where}"))
    if not found:
        raise DatasetCorrupt(
            f"{files.origin} holds no table with labels"
            + (f" (left out: {'; '.join(left_out)})" if left_out else "")
            + f": needed is train.csv with a column label and {side} columns of pixels"
        )
    numbered, class_names, note = arrays.number(
        {split: part for split, (_, part) in found.items()}, None, classes, files.origin
    )
    return Raw({split: (found[split][0], numbered[split]) for split in found}, class_names, note, tuple(left_out))


def holds_images(files: Files, name: str) -> bool:
    """Whether a .csv file is a table of pixels, and not of names: its first row has more than a hundred columns."""
    return unpacked_name(name).endswith(".csv") and files.read(name)[:100_000].partition(b"\n")[0].count(b",") > 100


def _table(data: bytes, where: str, side: int) -> tuple[np.ndarray, int | None]:
    """The cells of a table, and the column of labels; None if there is none."""
    heading = data[: data.find(b"\n") + 1 or None].decode("utf-8-sig", "replace").strip().lower()
    cells = [cell.strip(" \"'") for cell in heading.split(",")]
    has_heading = not all(re.fullmatch(r"-?\d+(\.\d*)?", cell) for cell in cells)
    columns = [column for column, cell in enumerate(cells) if cell in _LABELS] if has_heading else [0]
    if len(cells) not in (side, side + 1) or len(columns) > 1:
        raise DatasetCorrupt(
            f"{where} has {len(cells)} columns, where an image has {side} pixels and may have a column called label"
        )
    if len(cells) == side + 1 and not columns:
        raise DatasetCorrupt(f"{where} has {side + 1} columns, but none is called label ({cells[0]}, {cells[1]}, …)")
    skip = int(has_heading)
    try:
        table = _numbers(data, np.int16, skip)
    except (ValueError, DeprecationWarning):
        try:
            table = _numbers(data, np.float32, skip)
        except ValueError as error:
            raise DatasetCorrupt(f"{where} is not a table of numbers ({_fault(data, len(cells), skip)})") from error
    if table.shape[1] != len(cells) or not len(table):
        raise DatasetCorrupt(f"{where} holds {len(table)} whole rows of {len(cells)} columns: fetch it again")
    return table, columns[0] if len(cells) == side + 1 else None


def _numbers(data: bytes, dtype: type, skip: int) -> np.ndarray:
    """The numbers of a table; whole ones are read eight times as fast."""
    with warnings.catch_warnings():
        # NumPy warns of a table without rows, which is refused by its size.
        warnings.simplefilter("ignore", UserWarning)
        # And, before 2.3, of text that it reads as a fraction and cuts off.
        warnings.simplefilter("error", DeprecationWarning)
        return np.loadtxt(io.BytesIO(data), dtype, delimiter=",", skiprows=skip, ndmin=2)


def _fault(data: bytes, columns: int, skip: int) -> str:
    """Where a table ceases to be one of numbers."""
    for line, row in enumerate(data.decode("latin-1").splitlines(), 1):
        cells = row.split(",")
        if row.strip() and len(cells) != columns:
            return f"line {line} has {len(cells)} columns where the first has {columns}: fetch it again"
        bad = [cell for cell in cells if not re.fullmatch(r"\s*-?\d+(\.\d*)?\s*", cell)]
        if row.strip() and bad and line > skip:
            return f"line {line} holds {bad[0][:20]!r}"
    return "its cells cannot be read"


def _split(name: str) -> str:
    """The split that a table is named after; "train" if none."""
    stem = PurePosixPath(name).name.lower()
    return next((split for word, split in _SPLITS.items() if word in stem), "train")
