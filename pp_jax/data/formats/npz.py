"""NumPy archives (.npz) and arrays (.npy) of images and labels, under the names that people give them."""

import dataclasses
import io
import lzma
import math
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO

import numpy as np

from pp_jax.data import packed
from pp_jax.data.files import Files, unpacked_name
from pp_jax.data.formats import arrays, naming
from pp_jax.data.spec import Shape
from pp_jax.data.types import DatasetCorrupt, Raw

_KINDS = {
    "images": ("images", "image", "imgs", "img", "x", "data"),
    "labels": ("labels", "label", "targets", "target", "y"),
    "names": ("class_names", "label_names"),
}
_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "t10k": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
_NEEDED = "images and labels, or x_train, y_train, x_test and y_test"
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError, TypeError, KeyError),
    *(OSError, OverflowError, MemoryError, struct.error, lzma.LZMAError, tokenize.TokenError, SyntaxError),
)


@dataclasses.dataclass(frozen=True)
class _Part:
    """One array that matters: images, labels or names of a split, in a file."""

    kind: str
    split: str
    file: str
    where: str
    array: np.ndarray
    of_imagenet: bool


def read(files: Files, shape: Shape = (None, None, 1), classes: tuple[str, ...] | None = None) -> Raw:
    """Read images and labels from .npz and .npy files. Nothing is unpickled; other arrays are left alone.

    Understood are `images`, `labels` and `class_names` (the split "train", or the one that the file is named after);
    Keras' `x_train`, `y_train`, `x_test`, `y_test`; MedMNIST's `train_images`, …; KMNIST's four files of one array
    each; the batches `data`, `labels`, `mean` of the downsampled ImageNet, whose labels 1..1000 become 0..999.
    How images and labels may be stored: `arrays.images`, `arrays.labels`, `arrays.number`.

    Args:
        files: the files of a folder or an archive, or one file.
        shape: (H, W, C) of an image, as far as it is known.
        classes: the class names, where the set is a known one.

    Raises:
        DatasetCorrupt: if a file is damaged, an array is missing or of another kind, or it can mean several things.
    """
    archives = [name for name in files.names if unpacked_name(name).endswith((".npz", ".npy"))]
    opened = {name: _open(files, name) for name in sorted(archives, key=naming.natural)}
    parts = [part for name, content in opened.items() for part in _parts(files.where(name), name, content)]
    splits = [part.split for part in parts if part.kind in ("images", "labels")]
    if not splits:
        keys = ", ".join(list(dict.fromkeys(key for content in opened.values() for key in content))[:6])
        raise DatasetCorrupt(f"{files.origin} holds arrays called {keys or 'nothing'}; needed are {_NEEDED}")
    found = {
        split: _split([part for part in parts if part.split == split], f"of the split {split} in {files.origin}", shape)
        for split in dict.fromkeys(splits)
    }
    given = [part for part in parts if part.kind == "names"]
    class_names = arrays.names(given[0].array, given[0].where) if given else None
    labels = {split: part for split, (_, part) in found.items()}
    if any(part.of_imagenet for part in parts) and all(part.min(initial=1) >= 1 for part in labels.values()):
        return _imagenet(found)
    numbered, class_names, note = arrays.number(labels, class_names, classes, f"{files.origin}")
    return Raw({split: (images, numbered[split]) for split, (images, _) in found.items()}, class_names, note)


def _imagenet(found: dict[str, tuple[np.ndarray, np.ndarray]]) -> Raw:
    """The downsampled ImageNet with TFDS's labels, which count from 0 and are named by the classes' WordNet numbers."""
    import tensorflow_datasets as tfds

    listed = tfds.core.tfds_path("image_classification/imagenet_resized_labels.txt").read_text().split()
    note = (
        "labels 1..1000 of the downsampled ImageNet are stored as 0..999, as in TFDS; their order is its own, not that "
        "of the sorted folder names n01440764, n01443537, …"
    )
    return Raw({split: (images, labels - 1) for split, (images, labels) in found.items()}, tuple(listed), note)


def _split(parts: list[_Part], which: str, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of one split, of several files where these are numbered batches."""
    images, labels = ([part for part in parts if part.kind == kind] for kind in ("images", "labels"))
    if not images or not labels:
        raise DatasetCorrupt(
            f"the array {parts[0].where} {which} has no partner: the source lacks the array "
            f"{'labels' if images else 'images'}; needed are {_NEEDED}"
        )
    batches = {re.sub(r"[_-]?\d+$", "", PurePosixPath(part.file).stem) for part in images}
    if len(images) != len(labels) or len(images) != len({part.file for part in images}) or len(batches) > 1:
        raise DatasetCorrupt(
            f"there are several arrays {which} ({', '.join(part.where for part in parts[:4])}): name one file"
        )
    pairs = []
    for image, label in zip(images, labels, strict=True):
        pixels = arrays.images(image.array, shape, image.where, planar=image.of_imagenet)
        pairs.append((pixels, arrays.labels(label.array, len(pixels), label.where)))
    if len({pixels.shape[1:] for pixels, _ in pairs}) > 1:
        raise DatasetCorrupt(f"the images {which} differ in shape: {sorted({pixels.shape[1:] for pixels, _ in pairs})}")
    if len(pairs) == 1:
        return pairs[0]
    return np.concatenate([pixels for pixels, _ in pairs]), np.concatenate([part for _, part in pairs])


def _open(files: Files, name: str) -> dict[str, np.ndarray | None]:
    """The arrays of one file by name; None for one that does not matter."""
    where = files.where(name)
    try:
        return dict(_members(files.read(name), where, PurePosixPath(unpacked_name(name)).stem))
    except DatasetCorrupt:
        raise
    except _BROKEN as error:
        raise DatasetCorrupt(
            f"{where} is not a whole {unpacked_name(name)[-4:]} of plain arrays ({error}): fetch it again"
        ) from error


def _parts(where: str, name: str, content: dict[str, np.ndarray | None]) -> Iterator[_Part]:
    """The arrays of one file that matter, with what they stand for."""
    stem = PurePosixPath(unpacked_name(name)).stem
    batch = "mean" in content or re.fullmatch(r"(?:.*_)?(?:train_data_batch_\d+|val_data)", stem) is not None
    for key, array in content.items():
        role = _role(key, stem)
        if role is not None and array is not None:
            yield _Part(*role, name, f"{key} in {where}", array, batch and key == "data")


def _members(data: bytes, where: str, stem: str) -> Iterator[tuple[str, np.ndarray | None]]:
    """Names and arrays of a file; an array that does not matter is not read."""
    if data[:6] == b"\x93NUMPY":
        yield stem, _array(io.BytesIO(data), len(data), f"{stem} in {where}")
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            key = info.filename.removesuffix(".npy")
            wanted = _role(key, stem) is not None
            if wanted and info.file_size > packed.limit(len(data)):
                raise packed.too_much(f"{key} in {where}", len(data))
            with archive.open(info) as stream:
                yield key, _array(stream, info.file_size, f"{key} in {where}") if wanted else None


def _role(key: str, stem: str) -> tuple[str, str] | None:
    """Which kind of array of which split a key stands for; None if it does not matter.

    An array without a name of its own (arr_0), or one alone in its file, is named by the file.
    """
    alone = key == stem or key == "arr_0"
    if not alone and key.lower() in _KINDS["names"]:
        return "names", ""
    tokens = re.split(r"[^a-z0-9]+", (stem if alone else key).lower())
    kinds = [kind for kind in ("images", "labels") if set(tokens) & set(_KINDS[kind])]
    rest = [token for token in tokens if token not in _SPLITS and not any(token in _KINDS[kind] for kind in kinds)]
    if len(kinds) != 1 or (rest and not alone) or "coarse" in tokens:
        return None
    splits = [_SPLITS[token] for token in tokens if token in _SPLITS]
    splits = splits or [_SPLITS[token] for token in re.split(r"[^a-z0-9]+", stem.lower()) if token in _SPLITS]
    return kinds[0], splits[-1] if splits else "train"


def _array(stream: IO[bytes], size: int, where: str) -> np.ndarray:
    """One .npy array, refused before it is read if its header promises more than there is."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DatasetCorrupt(f"{where} is an .npy of version {version}, not of plain numbers or text")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = read_header(stream)
    if dtype.hasobject:
        raise DatasetCorrupt(
            f"{where} is an array of Python objects, which only a pickle could hold and which is not opened: "
            "save it with a dtype of numbers or text, e.g. uint8, int64 or str"
        )
    promised = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or promised > size:
        raise DatasetCorrupt(
            f"{where} holds at most {size} bytes where its header promises {promised} ({dtype} {shape}): fetch it again"
        )
    content = stream.read()
    if len(content) != promised:
        raise DatasetCorrupt(f"{where} holds {len(content)} bytes where its header promises {promised}: fetch it again")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if columns_first else "C")
