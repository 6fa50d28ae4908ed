"""CIFAR-10 and CIFAR-100: the official binary version, lossless mosaics, and folders of single pictures."""

import re

import numpy as np

from pp_jax.data.files import Files
from pp_jax.data.formats import naming, pictures, single
from pp_jax.data.types import DatasetCorrupt, Raw

ENDINGS = r"(\.bin|(^|/)(data_batch_\d|test_batch|train|test|meta|batches\.meta))"
"""The names of files of the binary version, which is read, and of the Python version, which is refused."""

_PIXELS = 3 * 32 * 32


def read(files: Files, classes: tuple[str, ...]) -> Raw:
    """Read CIFAR in whichever form `files` holds it.

    The official *binary* version: records of a label byte (CIFAR-100: coarse, then fine) and 3×32×32 bytes, in
    `data_batch_*.bin`, `test_batch.bin`, or `train.bin`, `test.bin`. The Python version is a pickle, which can run
    code when it is opened, and is refused.

    Mosaics: `<split>/<class>[_<part>].webp` (or .png), lossless, tiles of 32×32 read row by row.

    Pictures: `<split>/<class>/<name>.png` (fastai), `<split>/<number>_<class>.png`, or `train/<number>.png` with
    `trainLabels.csv` (Kaggle); pictures whose class cannot be known are left out.

    Args:
        files: the files of a folder or an archive.
        classes: the class names; 100 of them mean CIFAR-100.

    Raises:
        DatasetCorrupt: if a file is damaged or in another format.
    """
    binary = _binary_names(files, fine=len(classes) == 100)
    if binary:
        read_one = _records_fine if len(classes) == 100 else _records
        splits = {split: _join([read_one(files, name) for name in names]) for split, names in binary.items() if names}
        return Raw(splits)
    if places := single.labelled(files, classes):
        return single.read(files, places, classes)
    mosaics = [name for name in files.names if name.lower().endswith((".webp", ".png"))]
    if mosaics:
        return _read_mosaics(files, mosaics, classes)
    version = f"the binary version (cifar-{len(classes)}-binary.tar.gz)"
    if any(re.search(r"(^|/)(data_batch_\d|test_batch|train|test|meta|batches\.meta)$", name) for name in files.names):
        raise DatasetCorrupt(
            f"{files.origin} is the Python version of CIFAR, a pickle, which is not opened: fetch {version}"
        )
    raise DatasetCorrupt(
        f"{files.origin} holds neither CIFAR's binary files nor mosaics such as train/<class>.webp nor pictures such "
        f"as train/<class>/1.png: give {version}"
    )


def _binary_names(files: Files, *, fine: bool) -> dict[str, list[str]]:
    """The official binary files of CIFAR-10, or of CIFAR-100, by split; empty if there are none."""
    stems = {"train": "train", "test": "test"} if fine else {"train": r"data_batch_\d", "test": "test_batch"}
    found = {split: rf"(^|/){stem}\.bin$" for split, stem in stems.items()}
    names = {split: [name for name in files.names if re.search(pattern, name)] for split, pattern in found.items()}
    return names if any(names.values()) else {}


def _records(files: Files, name: str, label_bytes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The images and the last label byte of the records of one binary file."""
    data = np.frombuffer(files.read(name), np.uint8)
    if not len(data) or len(data) % (label_bytes + _PIXELS):
        raise DatasetCorrupt(
            f"{files.where(name)} holds {len(data)} bytes, not whole records of {label_bytes + _PIXELS}: fetch it again"
        )
    records = data.reshape(-1, label_bytes + _PIXELS)
    images = records[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images, records[:, label_bytes - 1]


def _records_fine(files: Files, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The images and fine labels of one binary file of CIFAR-100."""
    return _records(files, name, label_bytes=2)


def _read_mosaics(files: Files, names: list[str], classes: tuple[str, ...]) -> Raw:
    """All mosaics, by split and class, parts in order."""
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for name in sorted(names, key=naming.natural):
        split, stem = name.rsplit(".", 1)[0].split("/")[-2:] if "/" in name else ("train", name.rsplit(".", 1)[0])
        label = next((classes.index(stem_) for stem_ in (stem, re.sub(r"_\d+$", "", stem)) if stem_ in classes), None)
        if label is None:
            raise DatasetCorrupt(
                f"{files.where(name)} has no label: it is named after no class of this set, such as "
                f"{classes[0]}, lies in no class's folder, and no trainLabels.csv gives its number a class"
            )
        images = _tiles(files.read(name), files.where(name))
        parts.setdefault(split, []).append((images, np.full(len(images), label, np.int32)))
    note = "from mosaics: the images are in class order and their ids are positions in that order"
    return Raw({split: _join(list_) for split, list_ in parts.items()}, note=note)


def _tiles(data: bytes, where: str) -> np.ndarray:
    """The 32×32 tiles of a mosaic, row by row."""
    mosaic = pictures.decode(data, where, 3).pixels
    height, width = mosaic.shape[:2]
    if height % 32 or width % 32:
        raise DatasetCorrupt(f"{where} is {height}×{width}, not a mosaic of 32×32 tiles")
    return mosaic.reshape(height // 32, 32, width // 32, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)


def _join(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, one part after the other."""
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)
