"""Known sets in whichever form people have them: the official files, NumPy archives, tables or folders of pictures."""

import dataclasses
import functools
import re
from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np

from pp_jax.data.files import Files
from pp_jax.data.formats import csv, folder, naming, npz
from pp_jax.data.spec import Shape
from pp_jax.data.types import DataError, DatasetCorrupt, Raw

_PACKED = r"(\.gz|\.bz2|\.xz|\.zst)?$"
_UNREAD = {
    r"\.(pkl|pickle)$": "a pickle, which can run code when it is opened,",
    r"\.(pt|pth)$": "a PyTorch file, which is a pickle,",
    r"\.parquet$": "a Parquet table",
    r"\.arrow$": "an Arrow table",
    r"\.tfrecords?(-\d+-of-\d+)?$": "a TFRecord, which only TensorFlow reads,",
    r"\.(h5|hdf5)$": "an HDF5 file",
    r"\.mat$": "a MATLAB file",
    r"\.(7z|rar|xz|zst)$": "an archive that must be unpacked first",
}


def read(
    files: Files,
    *,
    name: str,
    native: Callable[[Files], Raw],
    endings: str,
    shape: Shape,
    classes: tuple[str, ...] | None,
    accepts: str,
    pictures: Callable[..., Raw] | None = None,
    size: int | None = None,
) -> Raw:
    """Read a set in the first of the forms that `files` holds.

    Args:
        files: the files of a folder or an archive, or one file.
        name: the set.
        native: reads the form that the set's authors hand out.
        endings: a regular expression for the names of that form's files.
        shape: (H, W, C) of an image, as far as it is known.
        classes: the class names of the set, if they are known.
        accepts: the forms there are, for messages.
        pictures: reads folders of pictures, with `size`; None: `folder.read`.
        size: as in `folder.read`; for pictures only.

    Returns:
        The arrays; labels in the order of `classes`.

    Raises:
        DatasetCorrupt: if no form is there, or the one that is there is damaged.
    """
    if _any(files, rf"{endings}{_PACKED}"):
        return native(files)
    if _any(files, rf"\.np[yz]{_PACKED}"):
        if size is not None:
            raise DataError(f"--size applies to image folders; {files.origin} is an .npz")
        return in_order(npz.read(files, shape, classes), classes, files.origin)
    tables = tuple(file for file in files.names if csv.holds_images(files, file))
    if tables and shape[2] == 1:
        return csv.read(dataclasses.replace(files, names=tables), shape, classes, name)
    if any(map(folder.is_picture, files.names)):
        read_pictures = pictures or functools.partial(folder.read, channels=shape[2])
        found = read_pictures(files) if size is None else read_pictures(files, size=size)
        return in_order(found, classes, files.origin)
    raise unread(files, accepts)


def in_order(raw: Raw, classes: tuple[str, ...] | None, origin: str) -> Raw:
    """The same images with labels in the order of a known set's classes.

    Class names that a source gives may differ from `classes` in spelling (case, blanks, underscores), or be numbers.

    Raises:
        DatasetCorrupt: if the source has a class that the set lacks.
    """
    if classes is None or raw.class_names is None or raw.class_names == classes:
        return raw
    position = {str(label): label for label in range(len(classes))} | {
        naming.plain(name): n for n, name in enumerate(classes)
    }
    unknown = [name for name in raw.class_names if naming.plain(name) not in position]
    if unknown:
        raise DatasetCorrupt(
            f"{origin} has classes that this set lacks ({', '.join(unknown[:3])}): its classes are "
            f"{', '.join(classes[:3])}, …, or their numbers 0, 1, 2, …"
        )
    places = [position[naming.plain(name)] for name in raw.class_names]
    twice = [name for name, place in zip(raw.class_names, places, strict=True) if places.count(place) > 1]
    if twice:
        raise DatasetCorrupt(
            f"{origin} has several classes for one of this set: {', '.join(twice[:3])}; join them first"
        )
    moved = np.array(places, np.int64)
    splits = {split: (images, moved[labels]) for split, (images, labels) in raw.splits.items()}
    return dataclasses.replace(raw, splits=splits, class_names=classes)


def unread(files: Files, accepts: str) -> DatasetCorrupt:
    """The error of a source in no form that is read; it names the form that it is in, if that is a known one."""
    for pattern, what in _UNREAD.items():
        found = [name for name in files.names if re.search(pattern, name)]
        if found:
            return DatasetCorrupt(f"{files.where(found[0])} is {what} and is not read; give {accepts}")
    some = ", ".join(PurePosixPath(name).name for name in files.names[:3])
    return DatasetCorrupt(f"{files.origin} holds nothing that is read ({some or 'no file at all'}); give {accepts}")


def _any(files: Files, pattern: str) -> bool:
    """Whether the name of any file matches."""
    return any(re.search(pattern, name, re.IGNORECASE) for name in files.names)
