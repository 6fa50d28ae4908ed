"""Omniglot, notMNIST and Caltech-101 in the folders that their authors hand out, brought to `folder.read`'s layout."""

import dataclasses
import re
from collections.abc import Callable, Mapping

from pp_jax.data.files import Files
from pp_jax.data.formats import folder
from pp_jax.data.phrases import counted
from pp_jax.data.types import DatasetCorrupt, Raw

_OMNIGLOT = re.compile(
    r"(?:^|/)images_(?P<part>background|evaluation)(?:_small[12])?/"
    r"(?P<alphabet>[^/]+)/character(?P<number>\d+)/(?P<file>[^/]+\.png)$"
)
_NOTMNIST = re.compile(r"(?:^|/)notMNIST_(?P<part>large|small)/(?P<letter>[A-J])/(?P<file>[^/]+\.png)$")
_CALTECH = re.compile(r"(?:^|/)101_ObjectCategories/(?P<kind>[^/]+)/(?P<file>[^/]+\.jpe?g)$", re.IGNORECASE)


def read_omniglot(files: Files, size: int | None = None) -> Raw:
    """Read `images_background/<alphabet>/characterNN/<name>.png` and `images_evaluation/…`; else any image folder.

    A class is one character of one alphabet. As in TFDS, background is the split "train" and evaluation "test";
    `images_background_small1` and `…_small2` are parts of background.

    Args:
        files: the files of a folder or an archive.
        size: as in `folder.read`; the images are 105 × 105.

    Raises:
        DatasetCorrupt: as in `folder.read`.
    """

    def place(found: re.Match[str]) -> str:
        split = {"background": "train", "evaluation": "test"}[found["part"]]
        return f"{split}/{found['alphabet']}.character{found['number']}/{found['file']}"

    places = _places(files, _OMNIGLOT, place)
    if not places:
        return folder.read(files, 1, size)
    raw = _read_at(files, places, 1, size)
    names = tuple(name.replace(".character", "/character") for name in raw.class_names or ())
    note = "the strokes are dark on light, as handed out: MNIST's are light on dark"
    return dataclasses.replace(raw, class_names=names, note=_joined(note, raw.note))


def read_notmnist(files: Files, size: int | None = None) -> Raw:
    """Read `notMNIST_large/<letter>/<name>.png` as the split "train" and `notMNIST_small` as "test", if both are there.

    Anything else, one of the two included, is read as `folder.read` does.

    Args:
        files: the files of a folder or an archive.
        size: as in `folder.read`.

    Raises:
        DatasetCorrupt: as in `folder.read`.
    """

    def place(found: re.Match[str]) -> str:
        return f"{'train' if found['part'] == 'large' else 'test'}/{found['letter']}/{found['file']}"

    places = _places(files, _NOTMNIST, place)
    if {name.partition("/")[0] for name in places} != {"train", "test"}:
        return folder.read(files, 1, size)
    note = "notMNIST_large is the split train, notMNIST_small the split test"
    raw = _read_at(files, places, 1, size)
    return dataclasses.replace(raw, note=_joined(note, raw.note))


def read_caltech101(files: Files, size: int | None = None) -> Raw:
    """Read `101_ObjectCategories/<kind>/<name>.jpg` with TFDS's class names, in lower case and sorted.

    Args:
        files: the files of a folder or an archive.
        size: as in `folder.read`.

    Raises:
        DatasetCorrupt: as in `folder.read`.
    """
    places = _places(files, _CALTECH, lambda found: f"{found['kind'].lower()}/{found['file']}")
    if not places:
        return folder.read(files, 3, size)
    raw = _read_at(files, places, 3, size)
    note = "all images are in the split train, where TFDS draws 30 a class for train and leaves the others for test"
    if "background_google" in (raw.class_names or ()):
        note += "; background_google, which is no kind of object, is a class, as in TFDS"
    return dataclasses.replace(raw, note=_joined(note, raw.note))


def _joined(*notes: str) -> str:
    """Several notes as one."""
    return "; ".join(filter(None, notes))


def _places(files: Files, pattern: re.Pattern[str], place: Callable[[re.Match[str]], str]) -> dict[str, str]:
    """Where each file that fits a pattern is to be read from: its name by its new place; of two alike, the first.

    Raises:
        DatasetCorrupt: if two files that differ have one place.
    """
    places: dict[str, str] = {}
    for name in files.names:
        found = pattern.search(name)
        if found is None:
            continue
        there = places.setdefault(place(found), name)
        if there != name and files.read(there) != files.read(name):
            raise DatasetCorrupt(
                f"{files.where(there)} and {files.where(name)} differ but have one place: give one of the folders"
            )
    return places


def _read_at(files: Files, places: Mapping[str, str], channels: int, size: int | None) -> Raw:
    """An image folder of the files at other places; pictures that have none are left out."""
    raw = folder.read(Files(files.origin, tuple(sorted(places)), lambda name: files.read(places[name])), channels, size)
    placed = set(places.values())
    outside = [name for name in files.names if folder.is_picture(name) and name not in placed]
    left_out = counted(
        outside, "image outside the set's folders or there twice", "images outside the set's folders or there twice"
    )
    return dataclasses.replace(raw, left_out=(*raw.left_out, *left_out))
