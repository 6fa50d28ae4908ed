"""Photographs in the folders that their authors hand out, where these differ from plain image folders."""

import dataclasses
import re

from pp_jax.data.files import Files
from pp_jax.data.formats import folder
from pp_jax.data.phrases import counted
from pp_jax.data.types import DatasetCorrupt, Raw


def read_caltech256(files: Files, size: int | None = None) -> Raw:
    """Read `…/256_ObjectCategories/<number>.<class>/<name>.jpg` as the split "train" of 256 classes.

    Left out are the folder 257.clutter, which is no class, and what lies deeper in the tree, which belongs to no set.

    Args:
        files: the files of a folder or an archive.
        size: as in `folder.read`.

    Raises:
        DatasetCorrupt: as in `folder.read`.
    """
    wanted = re.compile(r"(?:^|/)(?!257\.)\d{3}\.[^/]+/[^/]+$")
    outside = {name for name in files.names if folder.is_picture(name) and not wanted.search(name)}
    rest = dataclasses.replace(files, names=tuple(name for name in files.names if name not in outside))
    raw = folder.read(rest, 3, size)
    left_out = counted(sorted(outside), "image outside the 256 classes", "images outside the 256 classes")
    return dataclasses.replace(
        raw,
        class_names=tuple(re.sub(r"^\d+\.", "", name) for name in raw.class_names or ()),
        left_out=(*raw.left_out, *left_out),
    )


def read_birds(files: Files, size: int | None = None) -> Raw:
    """Read `images/<class>/<name>.jpg` with the splits of `train_test_split.txt`; without that, any image folder.

    Args:
        files: the files of a folder or an archive.
        size: as in `folder.read`.

    Raises:
        DatasetCorrupt: if a table does not fit the images, or as in `folder.read`.
    """
    table = files.find("train_test_split.txt")
    if table is None:
        return folder.read(files, 3, size)
    root = table.removesuffix("train_test_split.txt")
    names, in_train = _pairs(files, f"{root}images.txt"), _pairs(files, table)
    places = {
        f"{root}{'train' if in_train.get(number) == '1' else 'test'}/{name}": f"{root}images/{name}"
        for number, name in names.items()
    }
    if names.keys() != in_train.keys() or not set(places.values()) <= set(files.names):
        raise DatasetCorrupt(f"{files.where(table)} does not fit the images beside it: fetch the set again")
    raw = folder.read(Files(files.origin, tuple(sorted(places)), lambda name: files.read(places[name])), 3, size)
    listed = set(places.values())
    outside = [name for name in files.names if folder.is_picture(name) and name not in listed]
    left_out = counted(outside, "image outside the author's table", "images outside the author's table")
    return dataclasses.replace(raw, left_out=(*files.left_out, *raw.left_out, *left_out))


def _pairs(files: Files, name: str) -> dict[str, str]:
    """First and second column of a table."""
    if name not in files.names:
        raise DatasetCorrupt(f"{files.origin} lacks {name}")
    rows = [line.split(maxsplit=1) for line in files.text(name).splitlines() if line.strip()]
    return {row[0]: row[-1].strip() for row in rows}
