"""The files of `torch.save`, its zip format and the one before: a pickle, and the storages of its tensors."""

import os
import struct
import zipfile
from collections.abc import Callable, Iterable
from typing import IO, Any, NamedTuple

import numpy as np

from pp_jax.models.torch_pickle import Unpickler

_MAGIC = 0x1950A86A20F9469CFC6C
# Bytes a number, of the types that NumPy lacks or names otherwise.
_SIZES = {
    "bfloat16": 2, "complex32": 4, "complex64": 8, "complex128": 16, "qint8": 1, "quint8": 1, "qint32": 4,
    "quint4x2": 1, "quint2x4": 1, "untyped": 1,
}  # fmt: skip


class Saved(NamedTuple):
    """What a file holds: the pickled tree, and a function that reads storages by key, to be called once."""

    tree: Any
    storages: Callable[[Iterable[str]], dict[str, bytes]]


def open_zip(file: IO[bytes]) -> Saved:
    """What an archive of data.pkl, data/0, data/1, … holds; the file must stay open while storages are read."""
    archive = zipfile.ZipFile(file)
    pickles = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
    if len(pickles) != 1 or any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise ValueError("the archive is not one that torch.save has written")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist():
        _check_byte_order(archive.read(f"{folder}byteorder") == b"little")
    with archive.open(pickles[0]) as stream:
        tree = Unpickler(stream).load()
    return Saved(tree, lambda keys: {key: archive.read(f"{folder}data/{key}") for key in keys})


def open_old(file: IO[bytes]) -> Saved:
    """What five pickles followed by the storages hold; the file must stay open while storages are read."""
    head = file.read(32)
    if not head.startswith(b"\x80"):
        raise ValueError("it begins like neither")
    file.seek(0)
    if _MAGIC.to_bytes(10, "little") not in head or Unpickler(file).load() != _MAGIC:
        raise ValueError("it is a pickle, but not of torch.save")
    Unpickler(file).load()
    _check_byte_order(Unpickler(file).load()["little_endian"])
    unpickler = Unpickler(file)
    tree = unpickler.load()

    def storages(keys: Iterable[str]) -> dict[str, bytes]:
        """Those asked for."""
        places, found = _places(file, Unpickler(file).load(), unpickler.dtypes), {}
        for key in keys:
            start, size = places[key]
            file.seek(start)
            found[key] = file.read(size)
        return found

    return Saved(tree, storages)


def _places(file: IO[bytes], keys: Any, dtypes: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Start and size of each storage; each has its length in front."""
    places, end = {}, os.fstat(file.fileno()).st_size
    for key in keys:
        if key not in dtypes:
            raise ValueError("it holds numbers that no tensor uses")
        (length,) = struct.unpack("<q", file.read(8))
        size = length * (_SIZES.get(dtypes[key]) or np.dtype(dtypes[key]).itemsize)
        if not 0 <= size <= end - file.tell():
            raise ValueError("it ends before its last tensor")
        places[key] = (file.tell(), size)
        file.seek(size, os.SEEK_CUR)
    return places


def _check_byte_order(little: bool) -> None:
    """Refuse files of big-endian machines."""
    if not little:
        raise ValueError("it is in big-endian byte order")
