"""Load a split of a prepared set."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pp_jax.data import catalog, location, manifest, store
from pp_jax.data.types import DataError, Dataset, DatasetMissing, Track, silent


def load(
    name: str,
    split: str = "train",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    track: Track = silent,
) -> Dataset:
    """Load a split of a prepared image set into memory, without TensorFlow.

    A set that this library prepared is memory-mapped from its decoded arrays after the checksums of the files that hold
    the split have been compared with the set's record (once per process). A set that TFDS prepared is decoded from its
    records, about 50 µs an image of MNIST.

    Args:
        name: TFDS's name or one of the library's own, e.g. "mnist", "emnist/letters", "font_letters"; also with a
            version, "mnist:3.0.1" or "mnist:3.*.*", else the newest that can be read.
        split: TFDS's notation, e.g. "train", "test[:1000]", "train[50%:]", "train+test".
        data_dir: $TFDS_DATA_DIR, else ~/tensorflow_datasets, by default.
        track: shows progress where records are decoded.

    Returns:
        Images (N, H, W, C) uint8, labels (N,) int32, class names; the order is TFDS's. The arrays are read-only.

    Raises:
        DatasetMissing: if the set is not prepared (the message holds the command that cures it) or has no such split.
        DatasetCorrupt: if a file of the set is truncated or altered; the message names file and cure.
        DataError: if the name is unknown.
        ValueError: if the split is not one string, or its notation is wrong.
    """
    if not isinstance(split, str):
        raise ValueError(
            f"split must be one string such as 'train', not {split!r}: load each split by itself, as in "
            f"[data.load({name!r}, split) for split in ('train', 'test')], or both as one with 'train+test'"
        )
    name, version = catalog.resolve(name)
    directory, content = _find(name, version, data_dir)
    if content is not None:
        manifest.check(directory, content, manifest.metadata_of(content))
    builder = store.open_prepared(directory)
    parts = store.ranges(builder, split)
    if content is None:
        images, labels = store.decode(builder, split, track)
    else:
        images, labels = _mapped(directory, content, parts)
    images.flags.writeable = False
    labels.flags.writeable = False
    return Dataset(name, split, images, labels, store.class_names(builder))


def _find(name: str, version: str, data_dir: str | os.PathLike[str] | None) -> tuple[Path, dict[str, Any] | None]:
    """The directory of a prepared set and its record, if it has one."""
    root = location.data_dir(data_dir)
    directory = location.prepared(root, name, version)
    if directory is None and (other := location.prepared(root, name)) is not None:
        raise DatasetMissing(
            f"{name} is prepared in {root} as version {other.name}, not {version}: ask for that, or for any"
        )
    if directory is None:
        raise _missing(name, root, data_dir)
    return directory, manifest.read(directory)


def _mapped(
    directory: Path, content: dict[str, Any], parts: list[tuple[str, int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """The ranges of a split from the decoded arrays, checked; one range is a view of the file, several are joined."""
    found = []
    for split, start, stop in parts:
        manifest.check(directory, content, manifest.files_of(content, split))
        stem = directory / manifest.DECODED / split
        arrays = (np.load(f"{stem}_{what}.npy", mmap_mode="r", allow_pickle=False) for what in ("images", "labels"))
        found.append(tuple(np.asarray(array)[start:stop] for array in arrays))
    if len(found) == 1:
        return found[0][0], found[0][1]
    images, labels = zip(*found, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _missing(name: str, root: Path, given: str | os.PathLike[str] | None) -> DataError:
    """The error of a set that is not prepared: unknown, or with the command that prepares it."""
    try:
        spec = catalog.find(name)
    except DataError as error:
        return DataError(f"{error}; no set of that name is prepared in {root} either")
    options = ("" if spec.origins or spec.make else " --from PATH") + (f" --data-dir {given}" if given else "")
    return DatasetMissing(f"{name} is not prepared in {root}; cure: python -m pp_jax.data prepare {name}{options}")


def describe(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> Iterator[str]:
    """Lines that describe a prepared set, after a check of each of its files.

    Raises:
        DataError: if the set is unknown, not prepared, or damaged.
    """
    name, version = catalog.resolve(name)
    directory, content = _find(name, version, data_dir)
    if content is not None:
        manifest.check(directory, content, content["files"])
    builder = store.open_prepared(directory)
    yield f"{name} {builder.info.version} in {directory}"
    for split, info in builder.info.splits.items():
        yield f"  {split}: {info.num_examples} images"
    names = store.class_names(builder)
    yield f"  {len(names)} classes: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}"
    if content is None:
        yield "  prepared by TFDS; it has no record of checksums"
        return
    yield f"  about: {content['about']}"
    yield f"  from: {content['source']} at {content['prepared']}{'; ' + content['note'] if content['note'] else ''}"
    if content.get("left_out"):
        yield f"  left out: {', '.join(content['left_out'])}"
    for split, record in content["splits"].items():
        standing = {True: ", as in the official set", False: ", which is not the official set's", None: ""}
        yield f"  SHA-256 of {split} images and labels: {record['sha256']}{standing[record.get('official')]}"
    yield f"  all {len(content['files'])} files are as they were written"
