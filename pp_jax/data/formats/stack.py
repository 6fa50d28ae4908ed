"""Many encoded pictures as one array; the few that cannot be read are left out."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from pp_jax.data.files import Files
from pp_jax.data.formats import pictures
from pp_jax.data.formats.pictures import Picture, Unreadable
from pp_jax.data.phrases import counted
from pp_jax.data.types import DatasetCorrupt

MOST_LEFT_OUT = 0.1
"""The share of pictures that may be left out because they cannot be read."""


@dataclasses.dataclass(frozen=True)
class Stack:
    """Pictures of one size.

    Attributes:
        images: (N, H, W, channels) uint8.
        rows: (N,) the position of each in the list of names.
        notes: what was done to images, a phrase each.
        left_out: which could not be read, and why, a phrase each.
    """

    images: np.ndarray
    rows: np.ndarray
    notes: tuple[str, ...]
    left_out: tuple[str, ...]


def stack(files: Files, names: Sequence[str], channels: int, size: int | None) -> Stack:
    """Decode pictures into one array.

    Args:
        files: the files of a folder or an archive.
        names: those that are pictures; at least one.
        channels: 1 or 3, as in `pictures.decode`.
        size: as in `pictures.decode`.

    Raises:
        DatasetCorrupt: if more than a tenth cannot be read, sizes differ, or there is not enough memory for all.
    """
    images: np.ndarray | None = None
    rows: list[int] = []
    treated: dict[str, list[str]] = {}
    unread: dict[tuple[str, str], list[str]] = {}
    for row, name in enumerate(names):
        try:
            picture = read(files, name, channels, size)
        except Unreadable as error:
            unread.setdefault(error.kind, []).append(name)
            if sum(map(len, unread.values())) > MOST_LEFT_OUT * len(names):
                raise _too_many(error, len(names)) from error
            continue
        if images is None:
            images = _room(files, len(names), picture.pixels.shape)
        if picture.pixels.shape != images.shape[1:]:
            raise _differ(files, (names[rows[0]], images.shape[1:]), (name, picture.pixels.shape))
        images[len(rows)] = picture.pixels
        rows.append(row)
        for what in picture.treated:
            treated.setdefault(what, []).append(name)
    assert images is not None
    notes = [phrase for what, found in treated.items() for phrase in counted(found, f"image {what}", f"images {what}")]
    left_out = [phrase for kind, found in unread.items() for phrase in counted(found, *kind)]
    return Stack(images[: len(rows)], np.array(rows), tuple(notes), tuple(left_out))


def read(files: Files, name: str, channels: int, size: int | None = None) -> Picture:
    """Decode one picture of `files`.

    Raises:
        Unreadable: as `pictures.decode`, or if its file is damaged.
    """
    try:
        data = files.read(name)
    except DatasetCorrupt as error:
        raise Unreadable(str(error)) from error
    return pictures.decode(data, files.where(name), channels, size)


def _too_many(error: Unreadable, total: int) -> DatasetCorrupt:
    """The error of a set of which too much cannot be read."""
    return DatasetCorrupt(f"{error}; of {total} images at most a tenth may be left out" if total > 1 else str(error))


def _differ(files: Files, first: tuple[str, tuple[int, ...]], other: tuple[str, tuple[int, ...]]) -> DatasetCorrupt:
    """The error of two pictures of different size."""
    (name, shape), (other_name, other_shape) = first, other
    return DatasetCorrupt(
        f"{files.where(other_name)} is {other_shape[0]}×{other_shape[1]} but {files.where(name)} is "
        f"{shape[0]}×{shape[1]}: nothing is resized unasked; choose a size with --size"
    )


def _room(files: Files, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """An array for all pictures, if the machine's memory holds it."""
    needed = count * int(np.prod(shape))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise DatasetCorrupt(
            f"{count} images of {shape[0]}×{shape[1]} in {files.origin} need {needed / 1e9:.0f} GB, but this machine "
            f"has {memory / 1e9:.0f} GB of memory: choose a smaller size with --size, or give a part of the set"
        )
    return np.empty((count, *shape), np.uint8)
