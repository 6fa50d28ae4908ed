"""IDX files, the format of MNIST and of the sets that follow it."""

import hashlib
import math
from pathlib import PurePosixPath

import numpy as np

from pp_jax.data.files import Files, unpacked_name
from pp_jax.data.formats import naming
from pp_jax.data.types import DatasetCorrupt, Raw

_SPLITS = {"train": ("train",), "test": ("t10k", "test")}
_SIBLINGS = {"fashionmnist", "kmnist", "emnist", "qmnist", "k49"}


def parse(data: bytes, where: str) -> np.ndarray:
    """Decode one IDX file of unsigned bytes: magic 00 00 08 d, then d big-endian sizes, then the values.

    Args:
        data: the file, not compressed.
        where: its name, for messages.

    Returns:
        A uint8 array of d dimensions.

    Raises:
        DatasetCorrupt: if the magic number or the length is wrong.
    """
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4:
        raise DatasetCorrupt(f"{where} is not an IDX file of bytes (it starts with {data[:4].hex(' ') or 'nothing'})")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DatasetCorrupt(f"{where} is truncated within its header: fetch it again")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", count=data[3], offset=4))
    if len(data) - start != math.prod(shape):
        raise DatasetCorrupt(
            f"{where} holds {len(data) - start} bytes where its header promises {math.prod(shape)} (shape {shape}): "
            "fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read(files: Files, prefix: str = "", set_name: str = "mnist") -> Raw:
    """Read the pairs `{prefix}train-images-idx3-ubyte`, `{prefix}train-labels-idx1-ubyte`, and t10k or test likewise.

    Plain or gzipped, at any depth, also with dots as in `train-images.idx3-ubyte`. A file may be there several times,
    as torchvision leaves it (plain and .gz), if all are the same. Of several sets in one folder, such as
    `MNIST/raw` and `FashionMNIST/raw`, the set's own counts. EMNIST's images are stored with rows and columns exchanged
    and stay so, as in TFDS.

    Args:
        files: the files of a folder or an archive.
        prefix: what the names begin with.
        set_name: the set, which its folder may be called after.

    Raises:
        DatasetCorrupt: if a file is damaged, one half of a pair is missing, or it is not clear which file is meant.
    """
    splits = {}
    for split, stems in _SPLITS.items():
        images, labels = (_half(files, prefix, stems, kind, set_name) for kind in ("images", "labels"))
        if (images is None) != (labels is None):
            raise DatasetCorrupt(f"{files.origin} holds only one half of the pair {split} images and {split} labels")
        if images is not None and labels is not None:
            splits[split] = (images[..., None], labels)
    if not splits:
        others = [PurePosixPath(name).name for name in files.names if "ubyte" in name]
        raise DatasetCorrupt(
            f"{files.origin} holds no IDX files such as {prefix}train-images-idx3-ubyte.gz"
            + (f", but {', '.join(others[:3])}" if others else "")
        )
    return Raw(splits)


def _half(files: Files, prefix: str, stems: tuple[str, ...], kind: str, set_name: str) -> np.ndarray | None:
    """The images or the labels of one split; None if there is no such file."""
    rank = 3 if kind == "images" else 1
    endings = tuple(f"{prefix}{stem}-{kind}{dot}idx{rank}-ubyte" for stem in stems for dot in "-.")
    found = [name for name in files.names if unpacked_name(name).endswith(endings)]
    found = _own(files, [name for name in found if _before(name, endings) in ("", naming.letters(set_name))], set_name)
    contents = {hashlib.sha256(data).digest(): data for data in map(files.read, found)}
    if not contents:
        return None
    if len(contents) > 1:
        raise DatasetCorrupt(
            f"{files.origin} holds several files that end with {endings[0]} and differ: {', '.join(found[:3])}; "
            "give the folder of the one set that is meant"
        )
    array = parse(next(iter(contents.values())), files.where(found[0]))
    if array.ndim != rank:
        raise DatasetCorrupt(f"{files.where(found[0])} has {array.ndim} dimensions where {kind} have {rank}")
    return array


def _before(name: str, endings: tuple[str, ...]) -> str:
    """What a file's own name has before one of the endings, without what spellings differ in."""
    own = PurePosixPath(unpacked_name(name)).name
    return naming.letters(next((own.removesuffix(ending) for ending in endings if own.endswith(ending)), own))


def _own(files: Files, names: list[str], set_name: str) -> list[str]:
    """Those files whose folders are called after the set, if any are; none may lie in another set's folder alone."""
    called = {name: {naming.letters(part) for part in PurePosixPath(name).parts[:-1]} for name in names}
    own = [name for name in names if naming.letters(set_name) in called[name]]
    if own:
        return own
    # No more of it: a data directory, in which downloads lie for a while, may be called after any set.
    above = {naming.letters(part) for part in PurePosixPath(files.origin).parts[-2:]}
    others = [name for name in names if (called[name] | above) & _SIBLINGS]
    if others and len(others) == len(names) and naming.letters(set_name) not in above:
        raise DatasetCorrupt(
            f"{files.where(others[0])} lies in the folder of another set than {set_name}: prepare that set, or give "
            f"the folder of {set_name}"
        )
    return [name for name in names if name not in others] or names
