"""Splits and classes of an image folder, from the names of its files alone."""

import dataclasses
import re
from collections.abc import Collection, Sequence

from pp_jax.data.phrases import counted, shown
from pp_jax.data.types import DatasetCorrupt

_SPLITS = {
    "train": r"train(?:ing)?(?:[\W_]*val)?|trn",
    "validation": r"val(?:id(?:ation|ate)?)?|dev(?:elopment)?",
    "test": r"test(?:ing)?|tst|eval(?:uation)?",
}
_AROUND = (
    r"(?:images?|imgs?|pictures?|pics?|photos?|jpe?gs?|pngs?|data(?:set)?|sets?|splits?|folders?|dir|x|seg|mini|full|final"
    r"|raw|original|resized|cropped|labell?ed|ilsvrc|imagenet|[\W_\d])*"
)
_PATTERNS = {split: re.compile(_AROUND + f"(?:{words})" + _AROUND, re.IGNORECASE) for split, words in _SPLITS.items()}
_DEEPEST = 50
_WRAPPERS = {"images", "image", "imgs", "img", "data"}


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the pictures of a folder are sorted.

    Attributes:
        entries: (split, class folder, name) of every picture that has a class.
        unsorted: by split ("" where there is none), the pictures that lie in no class folder.
        notes: what is noteworthy about the folders, a phrase each.
        left_out: what is in no split, and why, a phrase each.
    """

    entries: tuple[tuple[str, str, str], ...]
    unsorted: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Folder:
    """A folder with pictures: its name from the root, its subfolders and the pictures in it."""

    path: str
    folders: dict[str, "_Folder"] = dataclasses.field(default_factory=dict)
    pictures: list[str] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        """Its own name."""
        return self.path.rpartition("/")[2]

    def all_pictures(self) -> list[str]:
        """The pictures in it and below."""
        return [*self.pictures, *(name for folder in self.folders.values() for name in folder.all_pictures())]

    def has_class_folders(self) -> bool:
        """Whether pictures lie deeper than in a folder that merely says that it holds images."""
        return any(folder.folders or not self._is_wrapped_by(name) for name, folder in self.folders.items())

    def _is_wrapped_by(self, name: str) -> bool:
        """Whether a folder in it is called like no class: images, or like the split itself if it is alone."""
        repeated = len(self.folders) == 1 and split_of(name) is not None and split_of(name) == split_of(self.name)
        return name.lower() in _WRAPPERS or repeated


_Part = tuple[str, _Folder, list[str]]
"""A split, its folder of classes, and the pictures on the way there."""


def split_of(name: str) -> str | None:
    """The split that a folder is called after, such as "test" for Testing, eval or test2017_images; None for others."""
    return next((split for split, pattern in _PATTERNS.items() if pattern.fullmatch(name)), None)


def sort(origin: str, names: Collection[str], bare: Collection[str] = ()) -> Layout:
    """Sort pictures by split and class.

    `[…/]<split>/<class>/…/<picture>`, or `<class>/…/<picture>` as the split "train". The class is the first folder
    below the split, as for torchvision.

    Args:
        origin: where the pictures are, for messages.
        names: the pictures.
        bare: other folders, which may be classes without pictures.

    Raises:
        DatasetCorrupt: if it cannot be told which folders are classes.
    """
    root, strays = _descend(_tree(origin, names), whole=True)
    splits = {name: split for name in root.folders if (split := split_of(name))}
    left_out: tuple[str, ...] = ()
    if splits:
        outside = _outside(origin, root, splits)
        left_out = counted(outside, "image outside the splits", "images outside the splits")
        parts = _unwrapped([(split, *_descend(root.folders[name], whole=False)) for name, split in splits.items()])
    else:
        _check_classes(origin, root)
        parts = [("train", root, [])]
    entries: list[tuple[str, str, str]] = []
    unsorted = {"": [*strays, *(root.pictures if splits else [])]}
    for split, folder, beside in parts:
        classes, loose = _classes(folder)
        entries += [(split, each.name, name) for each in classes for name in each.all_pictures()]
        unsorted.setdefault(split if splits else "", []).extend([*beside, *loose])
    without = {
        name for folder in (root, *(folder for _, folder, _ in parts)) for name in _without_pictures(folder, bare)
    }
    left_out += counted(sorted(without), "folder without images", "folders without images")
    notes = _notes(splits, [each for _, folder, _ in parts for each in _classes(folder)[0]])
    told = {split: tuple(sorted(found)) for split, found in unsorted.items() if found}
    return Layout(tuple(entries), told, notes, left_out)


def _outside(origin: str, root: _Folder, splits: Collection[str]) -> list[str]:
    """The pictures beside the splits.

    Raises:
        DatasetCorrupt: if the splits may be classes that are called like splits.
    """
    others = [name for name in root.folders if name not in splits]
    outside = [name for other in others for name in root.folders[other].all_pictures()]
    inside = [name for split in splits for name in root.folders[split].all_pictures()]
    flat = not any(root.folders[split].has_class_folders() for split in splits)
    if outside and (flat or len(outside) > len(inside)):
        raise DatasetCorrupt(
            f"{origin} holds {_list(splits)} beside {_list(others)}: if all are classes, put them into a folder "
            "train; if not, give a folder of splits alone, as <split>/<class>/<image>"
        )
    return outside


def _unwrapped(parts: list[_Part]) -> list[_Part]:
    """Splits of which each holds a single folder of folders, as from train.zip with letters/<class>, without those."""
    deep = [part for part in parts if part[1].has_class_folders()]
    if not deep or not all(_is_wrapped(folder) for _, folder, _ in deep):
        return parts
    inner = [
        (split, next(iter(folder.folders.values())), [*beside, *folder.pictures]) for split, folder, beside in deep
    ]
    return _unwrapped([*inner, *(part for part in parts if part not in deep)])


def _is_wrapped(folder: _Folder) -> bool:
    """Whether a folder holds nothing but one folder that holds class folders."""
    return [inner.has_class_folders() for inner in folder.folders.values()] == [True]


def _classes(folder: _Folder) -> tuple[list[_Folder], list[str]]:
    """The class folders of a split, and the pictures in none of them."""
    if folder.has_class_folders():
        return list(folder.folders.values()), folder.pictures
    return [], folder.all_pictures()


def _without_pictures(folder: _Folder, bare: Collection[str]) -> set[str]:
    """The folders directly below one that hold no pictures."""
    start = f"{folder.path}/" if folder.path else ""
    below = {name[len(start) :].partition("/")[0] for name in bare if name.startswith(start)}
    return {start + name for name in below if name and name not in folder.folders}


def _tree(origin: str, names: Collection[str]) -> _Folder:
    """The folders that pictures lie in."""
    root = _Folder("")
    for name in sorted(names):
        folder = root
        *parents, _ = name.split("/")
        if len(parents) > _DEEPEST:
            raise DatasetCorrupt(f"{origin} holds an image {len(parents)} folders deep: lay it out as <split>/<class>/")
        for depth, part in enumerate(parents, start=1):
            folder = folder.folders.setdefault(part, _Folder("/".join(parents[:depth])))
        folder.pictures.append(name)
    return root


def _descend(folder: _Folder, *, whole: bool) -> tuple[_Folder, list[str]]:
    """Step through folders that merely wrap one another; also what lies beside the way.

    Args:
        folder: where to start.
        whole: whether `folder` is the whole source, whose only folder wraps it if it is no split; a folder within a
            split wraps it if its name says so, as in train/images/<class> and train/train/<class>.
    """
    strays: list[str] = []
    while True:
        inner = [each for each in folder.folders.values() if each.has_class_folders()]
        if whole:
            if len(folder.folders) > 1:
                inner = [each for each in inner if _holds_splits(each)]
                if any(split_of(name) for name in folder.folders):
                    break
            wraps = [each for each in inner if _splits_itself(each)]
        else:
            wraps = [each for each in inner if len(folder.folders) == 1 and _wraps(folder, each)]
        if len(wraps) != 1:
            break
        strays += [name for name in folder.all_pictures() if not name.startswith(f"{wraps[0].path}/")]
        folder = wraps[0]
    return folder, strays


def _holds_splits(folder: _Folder) -> bool:
    """Whether a folder holds splits that hold classes."""
    return any(split_of(name) and each.has_class_folders() for name, each in folder.folders.items())


def _splits_itself(folder: _Folder) -> bool:
    """Whether a folder is no split, or one that holds nothing but splits."""
    return not split_of(folder.name) or all(split_of(name) for name in folder.folders)


def _wraps(folder: _Folder, inner: _Folder) -> bool:
    """Whether the only folder of a split wraps it."""
    return inner.name.lower() in _WRAPPERS or split_of(inner.name) == split_of(folder.name)


def _check_classes(origin: str, root: _Folder) -> None:
    """Refuse folders that are no classes: splits below them, or the same folders within each."""
    below = {name: tuple(folder.folders) for name, folder in root.folders.items()}
    swapped = [f"{name}/{inner}" for name, folders in below.items() for inner in folders if split_of(inner)]
    if swapped:
        raise DatasetCorrupt(
            f"{origin} holds splits below other folders ({_list(swapped)}): lay it out as <split>/<class>/<picture>, "
            "or give one of these folders"
        )
    alike = len(below) > 1 and len(set(below.values())) == 1 and len(next(iter(below.values()))) > 1
    if alike and not any(folder.pictures for folder in root.folders.values()):
        raise DatasetCorrupt(
            f"{origin}: {_list(below)} each hold the folders {_list(next(iter(below.values())))}: which are the "
            "classes? give one of them, or call them train and test"
        )


def _notes(splits: dict[str, str], classes: Sequence[_Folder]) -> tuple[str, ...]:
    """What is noteworthy about the folders: splits of two folders, folders within classes, classes that look alike."""
    together = [[name for name, found in splits.items() if found == split] for split in sorted(set(splits.values()))]
    notes = [f"{split_of(names[0])} is {_list(names)} together" for names in together if len(names) > 1]
    deep = sorted(
        {f"{each.name}/{inner}" for each in classes for inner in each.folders if inner.lower() not in _WRAPPERS}
    )
    notes += [
        f"{phrase} count as the class above"
        for phrase in counted(deep, "folder within a class", "folders within classes")
    ]
    seen: dict[str, str] = {}
    for name in sorted({each.name for each in classes}):
        twin = seen.setdefault(name.casefold(), name)
        if twin != name:
            notes.append(f"{shown(twin)} and {shown(name)} are two classes, though they differ in case alone")
    return tuple(notes)


def _list(names: Collection[str]) -> str:
    """A few names in a sentence."""
    first = [shown(name) for name in sorted(names)[:4]]
    if len(names) > 4:
        return f"{', '.join(first[:3])}, …"
    return " and ".join(filter(None, (", ".join(first[:-1]), first[-1])))
