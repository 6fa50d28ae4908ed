"""MATLAB files of SVHN's cropped digits."""

import re

import numpy as np

from pp_jax.data.files import Files
from pp_jax.data.formats import arrays, mat5
from pp_jax.data.types import DatasetCorrupt, Raw

ENDINGS = r"(\.mat|(^|/)(train|test|extra)\.tar)"
"""The names of files that `read` knows, and of those that it can name."""


def read(files: Files) -> Raw:
    """Read `train_32x32.mat`, `test_32x32.mat` and, if it is there, `extra_32x32.mat`.

    X is (32, 32, 3, N) uint8, y is (N, 1) with 1..10, where 10 stands for the digit 0; labels are y mod 10, as in TFDS.

    Raises:
        DatasetCorrupt: if no such file is there or one is damaged.
    """
    found = {split: files.find(f"{split}_32x32.mat") for split in ("train", "test", "extra")}
    splits = {split: _parse(files.read(name), files.where(name)) for split, name in found.items() if name is not None}
    if not splits and any(
        re.search(r"digitStruct\.mat$|(^|/)(train|test|extra)\.tar(\.gz)?$", name) for name in files.names
    ):
        raise DatasetCorrupt(
            f"{files.origin} is SVHN's format 1, whole house numbers with digitStruct.mat: fetch format 2, the cropped "
            "digits in train_32x32.mat and test_32x32.mat"
        )
    if not splits:
        raise DatasetCorrupt(f"{files.origin} holds no SVHN file such as train_32x32.mat")
    return Raw(splits)


def _parse(data: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of one file."""
    if data.startswith(b"MATLAB 7.3") or b"\x89HDF\r\n\x1a\n" in data[:1024]:
        raise DatasetCorrupt(
            f"{where} was saved as MATLAB v7.3 (HDF5), which is not read: fetch the official file, or save X and y in "
            "MATLAB with save(…, '-v7')"
        )
    try:
        content = mat5.read(data, ("X", "y"))
        images, digits = content["X"], content["y"]
    except (ValueError, KeyError) as error:
        raise DatasetCorrupt(f"{where} is not a whole SVHN .mat file with X and y ({error}): fetch it again") from error
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DatasetCorrupt(f"{where}: X must be uint8 (32, 32, 3, N), not {images.dtype} {images.shape}")
    labels = arrays.labels(digits, images.shape[3], f"y of {where}")
    if labels.dtype.kind != "i" or (len(labels) and not 1 <= labels.min() <= labels.max() <= 10):
        raise DatasetCorrupt(f"{where}: y must lie in 1..10, not {labels.min()}..{labels.max()}")
    return images.transpose(3, 0, 1, 2), labels % 10
