"""Image folders: one folder per class, as photographs are usually handed around."""

import io
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from pp_jax.data.files import Files
from pp_jax.data.types import DatasetCorrupt, Raw

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}

Entry = tuple[str, str, str]
"""A file's split, class and name."""


def read(files: Files, channels: int, size: int | None = None) -> Raw:
    """Read `[…/]<split>/<class>/[images/]<name>.png|jpg|…`, or `<class>/<name>` as the split "train".

    Labels number the sorted class folders. TinyImageNet's own layout is understood: `val/images` is labelled by
    `val/val_annotations.txt`, the unlabelled test folder is left out, `wnids.txt` lists the classes and `words.txt`
    names them; `classes.tsv` (folder TAB names) does both.

    Args:
        files: the files of a folder or an archive.
        channels: 1 or 3; images of another mode are converted.
        size: None leaves the images as they are, which must then all have one size; a number cuts the centre square
            and resamples it to size × size (Lanczos).

    Raises:
        DatasetCorrupt: if an image is damaged, sizes differ, or there are no images.
    """
    annotations = _table(files, "val/val_annotations.txt")
    entries = [entry for entry in (_entry(name, annotations) for name in files.names) if entry is not None]
    if not entries:
        raise DatasetCorrupt(f"{files.origin} holds no images named <split>/<class>/<name>.png or .jpg")
    titles = _table(files, "classes.tsv") or _table(files, "words.txt")
    number = {folder: label for label, folder in enumerate(_classes(files, {folder for _, folder, _ in entries}))}
    splits = {}
    for split in sorted({split for split, _, _ in entries}):
        chosen = [(number[folder], name) for split_, folder, name in entries if split_ == split]
        images = _stack(files, [name for _, name in chosen], channels, size)
        splits[split] = (images, np.array([label for label, _ in chosen], np.int32))
    return Raw(splits, tuple(titles.get(folder, folder) for folder in number))


def _entry(name: str, annotations: dict[str, str]) -> Entry | None:
    """Split, class and name of one file; None if it is not a labelled image."""
    path = PurePosixPath(name)
    parents = [part for part in path.parts[:-1] if part != "images"]
    if path.suffix.lower() not in _SUFFIXES or not parents:
        return None
    if parents[-1] == "val":
        return ("validation", annotations[path.name], name) if path.name in annotations else None
    splits = [_SPLIT_NAMES[part.lower()] for part in parents[:-1] if part.lower() in _SPLIT_NAMES]
    if not splits and parents[-1].lower() in _SPLIT_NAMES:
        return None
    return (splits[-1] if splits else "train", parents[-1], name)


def _classes(files: Files, folders: set[str]) -> list[str]:
    """All class folders in the order of their labels, also those that this part of a set has no images of.

    Raises:
        DatasetCorrupt: if images lie in a folder that the list of classes lacks.
    """
    listed = files.find("wnids.txt")
    known = set(files.read(listed).decode().split()) if listed else set(_table(files, "classes.tsv"))
    if known and folders - known:
        raise DatasetCorrupt(f"{files.origin} holds images of {min(folders - known)}, which its list of classes lacks")
    return sorted(known or folders)


def _table(files: Files, suffix: str) -> dict[str, str]:
    """First and second column of a tab-separated file; empty if there is no such file."""
    found = files.find(suffix)
    rows = [line.split("\t") for line in files.read(found).decode().splitlines()] if found else []
    return {row[0]: row[1] for row in rows if len(row) > 1}


def _stack(files: Files, names: list[str], channels: int, size: int | None) -> np.ndarray:
    """All images as one array."""
    first = decode(files, names[0], channels, size)
    images = np.empty((len(names), *first.shape), np.uint8)
    for row, name in enumerate(names):
        image = decode(files, name, channels, size)
        if image.shape != first.shape:
            raise DatasetCorrupt(
                f"{files.where(name)} is {image.shape[0]}×{image.shape[1]} but {files.where(names[0])} is "
                f"{first.shape[0]}×{first.shape[1]}: nothing is resized unasked; choose a size with --size"
            )
        images[row] = image
    return images


def decode(files: Files, name: str, channels: int, size: int | None) -> np.ndarray:
    """One image as (H, W, channels) uint8."""
    try:
        with Image.open(io.BytesIO(files.read(name))) as opened:
            image = opened.convert("L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DatasetCorrupt(f"{files.where(name)} is not a whole image ({error}): fetch it again") from error
    if size is not None:
        image = centre_square(image, size)
    return np.asarray(image).reshape(image.height, image.width, channels)


def centre_square(image: Image.Image, size: int) -> Image.Image:
    """The centre square of an image, resampled to size × size."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + side, top + side))
