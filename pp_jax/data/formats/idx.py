"""IDX files, the format of MNIST and of the sets that follow it."""

import math

import numpy as np

from pp_jax.data.files import Files
from pp_jax.data.types import DatasetCorrupt, Raw

_SPLITS = {"train": ("train",), "test": ("t10k", "test")}


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


def read(files: Files, prefix: str = "") -> Raw:
    """Read the pairs `{prefix}train-images-idx3-ubyte`, `{prefix}train-labels-idx1-ubyte`, and t10k or test likewise.

    Plain or gzipped, at any depth, also with dots as in `train-images.idx3-ubyte`. EMNIST's images are stored with
    rows and columns exchanged and stay so, as in TFDS.

    Raises:
        DatasetCorrupt: if a file is damaged or one half of a pair is missing.
    """
    splits = {}
    for split, stems in _SPLITS.items():
        images, labels = (_half(files, prefix, stems, *kind) for kind in (("images", 3), ("labels", 1)))
        if (images is None) != (labels is None):
            raise DatasetCorrupt(f"{files.origin} holds only one half of the pair {split} images and {split} labels")
        if images is not None and labels is not None:
            splits[split] = (images[..., None], labels)
    if not splits:
        raise DatasetCorrupt(f"{files.origin} holds no IDX files such as {prefix}train-images-idx3-ubyte.gz")
    return Raw(splits)


def _half(files: Files, prefix: str, stems: tuple[str, ...], kind: str, rank: int) -> np.ndarray | None:
    """The images or the labels of one split; None if there is no such file."""
    endings = tuple(f"{prefix}{stem}-{kind}{dot}idx{rank}-ubyte" for stem in stems for dot in "-.")
    found = files.find(*endings)
    if found is None:
        return None
    array = parse(files.read(found), files.where(found))
    if array.ndim != rank:
        raise DatasetCorrupt(f"{files.where(found)} has {array.ndim} dimensions where {kind} have {rank}")
    return array
