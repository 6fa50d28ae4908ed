"""Single pictures of a known set, labelled by their folder, by their name or by a table."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from pp_jax.data.files import Files
from pp_jax.data.formats import folder, known, naming, tree
from pp_jax.data.phrases import counted
from pp_jax.data.types import DatasetCorrupt, Raw


def labelled(files: Files, classes: tuple[str, ...]) -> Mapping[str, str]:
    """The pictures whose class can be known: `<split>/<label>/<name>` by the name of the file; empty if there are none.

    Args:
        files: the files of a folder or an archive.
        classes: the class names of the set.

    Raises:
        DatasetCorrupt: if a table gives a picture a class that the set lacks.
    """
    spelt = {naming.plain(name): name for name in classes}
    table = _table(files, spelt)
    found = {}
    for name in files.names:
        path = PurePosixPath(name)
        label = _label(path, spelt, table) if folder.is_picture(name) else None
        if label is not None:
            split = _split(path) or "train"
            # By number: a class of CIFAR-100 is called as a split is, "train".
            found[name] = f"{split}/{classes.index(label)}/{name.replace('/', '-')}"
    return found


def read(files: Files, places: Mapping[str, str], classes: tuple[str, ...]) -> Raw:
    """Read pictures at the places that `labelled` gives them; the other pictures are left out.

    Raises:
        DatasetCorrupt: as in `folder.read`.
    """
    origins = {place: name for name, place in places.items()}
    moved = Files(files.origin, tuple(sorted(origins, key=naming.natural)), lambda place: files.read(origins[place]))
    raw = known.in_order(folder.read(moved, 3), classes, files.origin)
    others = [n for n in files.names if n not in places and folder.is_picture(n)]
    left_out = counted(others, "picture without a label", "pictures without a label")
    lossy = any(name.lower().endswith((".jpg", ".jpeg")) for name in places)
    notes = (
        "from single pictures: the images are in class order and their ids are positions in that order",
        "they were compressed as JPEG, so they are not the official pixels" if lossy else "",
        raw.note,
    )
    return Raw(raw.splits, classes, "; ".join(filter(None, notes)), (*raw.left_out, *left_out))


def _label(path: PurePosixPath, spelt: Mapping[str, str], table: Mapping[str, str]) -> str | None:
    """The class of a picture; None if it cannot be known."""
    if path.stem in table and _split(path) != "test":
        return table[path.stem]
    if naming.plain(path.parent.name) in spelt and (_split(path.parent) or tree.split_of(path.parent.name) is None):
        return spelt[naming.plain(path.parent.name)]
    if path.parent.name.isdecimal() and int(path.parent.name) < len(spelt):
        return list(spelt.values())[int(path.parent.name)]
    numbered = re.fullmatch(r"\d+[_-](.+)", path.stem)
    return spelt.get(naming.plain(numbered[1])) if numbered else None


def _split(path: PurePosixPath) -> str | None:
    """The split that a folder above a picture is called after."""
    return next((split for part in path.parts[:-1] if (split := tree.split_of(part)) is not None), None)


def _table(files: Files, spelt: Mapping[str, str]) -> dict[str, str]:
    """Number and class of each picture from Kaggle's trainLabels.csv; empty if it is not there."""
    name = files.find("trainLabels.csv")
    if name is None:
        return {}
    rows = [line.strip().split(",") for line in files.read(name).decode("utf-8", "replace").splitlines()[1:]]
    unknown = [row for row in rows if len(row) != 2 or naming.plain(row[1]) not in spelt]
    if unknown:
        raise DatasetCorrupt(f"{files.where(name)} has the row {','.join(unknown[0])[:40]!r}, not a number and a class")
    return {number: spelt[naming.plain(label)] for number, label in rows}
