"""Image folders: one folder per class, as photographs are usually handed around."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from pp_jax.data.files import Files
from pp_jax.data.formats import pictures, tree
from pp_jax.data.formats.stack import read as read_picture
from pp_jax.data.formats.stack import stack
from pp_jax.data.phrases import counted, shown
from pp_jax.data.types import DatasetCorrupt, Raw

Entry = tuple[str, str, str]
"""An image's split, file name and class folder."""

_ANNOTATIONS = "val/val_annotations.txt"
_TABLES = (_ANNOTATIONS, "classes.tsv", "words.txt", "wnids.txt")


def read(files: Files, channels: int, size: int | None = None) -> Raw:
    """Read `[…/]<split>/<class>/…/<image>`, or `<class>/…/<image>` as the split "train".

    The class is the first folder below the split; labels number the sorted class folders. An image is what Pillow
    decodes, see `pictures.decode`; those that cannot be read are left out, up to a tenth of all. TinyImageNet's own
    layout is understood: `val/images` is labelled by `val/val_annotations.txt`, `wnids.txt` lists the classes and
    `words.txt` names them; `classes.tsv` (folder TAB names) does both.

    Args:
        files: the files of a folder or an archive.
        channels: 1 or 3; images of another mode are converted.
        size: None leaves the images as they are, which must then all have one size; a number cuts the centre square
            and resamples it to size × size (Lanczos).

    Returns:
        The splits. `left_out` says what of the source is in none of them; `note`, what was done to images.

    Raises:
        DatasetCorrupt: if more than a tenth of the images cannot be read, sizes differ, there are no images, or it
            cannot be told which folders are classes.
    """
    names = [name for name in files.names if is_picture(name)]
    others = sorted(set(files.names).difference(names))
    layout = tree.sort(files.origin, names, {*files.folders, *(name.rpartition("/")[0] for name in others)})
    entries, unsorted = _annotated(layout, _table(files, _ANNOTATIONS))
    left_out = (*files.left_out, *layout.left_out, *_no_class(unsorted), *_other_files(others))
    if not entries:
        raise DatasetCorrupt(
            f"{files.origin} holds no images in class folders ({', '.join(left_out) or 'it is empty'}): lay them out "
            "as <split>/<class>/<image> or <class>/<image>"
        )
    titles = _table(files, "classes.tsv") or _table(files, "words.txt")
    number = {folder: label for label, folder in enumerate(_classes(files, {folder for _, _, folder in entries}))}
    stacked = stack(files, [name for _, name, _ in entries], channels, size)
    split_of = np.array([split for split, _, _ in entries])[stacked.rows]
    labels = np.array([number[folder] for _, _, folder in entries], np.int32)[stacked.rows]
    splits = {str(split): _range(stacked.images, labels, split_of == split) for split in np.unique(split_of)}
    class_names = tuple(titles.get(folder, folder) for folder in number)
    notes = (*layout.notes, *_absent(splits, class_names), *stacked.notes)
    return Raw(splits, class_names, "; ".join(notes), (*stacked.left_out, *left_out))


def is_picture(name: str) -> bool:
    """Whether a file is called like an image that Pillow decodes."""
    return PurePosixPath(name).suffix.lower() in pictures.suffixes()


def decode(files: Files, name: str, channels: int, size: int | None) -> np.ndarray:
    """One image as (H, W, channels) uint8, as `pictures.decode`.

    Raises:
        DatasetCorrupt: if it cannot be read.
    """
    return read_picture(files, name, channels, size).pixels


def _annotated(layout: tree.Layout, annotations: Mapping[str, str]) -> tuple[list[Entry], dict[str, list[str]]]:
    """The labelled images, sorted by split and name, and the others by split; TinyImageNet labels those of val."""
    entries = [(split, name, folder) for split, folder, name in layout.entries]
    unsorted: dict[str, list[str]] = {}
    for split, names in layout.unsorted.items():
        for name in names:
            folder = annotations.get(PurePosixPath(name).name) if split == "validation" else None
            if folder is None:
                unsorted.setdefault(split, []).append(name)
            else:
                entries.append((split, name, folder))
    return sorted(entries), unsorted


def _classes(files: Files, folders: set[str]) -> list[str]:
    """All class folders in the order of their labels, also those that this part of a set has no images of.

    Raises:
        DatasetCorrupt: if images lie in a folder that the list of classes lacks.
    """
    known = set(_text(files, "wnids.txt").split()) or set(_table(files, "classes.tsv"))
    if known and folders - known:
        unknown = shown(min(folders - known))
        raise DatasetCorrupt(f"{files.origin} holds images of {unknown}, which its list of classes lacks")
    return sorted(known or folders)


def _table(files: Files, name: str) -> dict[str, str]:
    """First and second column of a tab-separated file; empty if there is no such file."""
    rows = [line.split("\t") for line in _text(files, name).splitlines()]
    return {row[0]: row[1] for row in rows if len(row) > 1}


def _text(files: Files, name: str) -> str:
    """The text of a table, at any depth; empty if there is no such file."""
    called = tuple(each for each in files.names if _is_called(each, name))
    found = dataclasses.replace(files, names=called).find(name)
    return files.text(found) if found else ""


def _is_called(name: str, *tables: str) -> bool:
    """Whether a file is one of some tables, at any depth."""
    return f"/{name}".endswith(tuple(f"/{table}" for table in tables))


def _range(images: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of a split, which lie one behind the other: a view, no copy."""
    rows = np.flatnonzero(chosen)
    return images[rows[0] : rows[-1] + 1], labels[rows[0] : rows[-1] + 1]


def _absent(splits: Mapping[str, tuple[np.ndarray, np.ndarray]], class_names: Sequence[str]) -> list[str]:
    """Which classes a split has no images of, a phrase per split."""
    absent = {
        split: [class_names[label] for label in sorted(set(range(len(class_names))).difference(labels.tolist()))]
        for split, (_, labels) in splits.items()
    }
    return [
        phrase
        for split, names in absent.items()
        for phrase in counted(names, f"class without {split} images", f"classes without {split} images")
    ]


def _no_class(unsorted: Mapping[str, Sequence[str]]) -> list[str]:
    """The images that have no label."""
    return [
        phrase
        for split, names in unsorted.items()
        for of in [f" of {split}" if split else ""]
        for phrase in counted(
            names, f"image{of} without a label, in no class folder", f"images{of} without a label, in no class folder"
        )
    ]


def _other_files(names: Sequence[str]) -> tuple[str, ...]:
    """The files that are neither images nor tables that were read."""
    rest = [name for name in names if not _is_called(name, *_TABLES)]
    return counted(rest, "file that is no image", "files that are no images")
