"""Data packed with gzip, bzip2, xz or Zstandard: known by its first bytes, unpacked in memory and within bounds."""

import bz2
import functools
import gzip
import importlib
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Any

from pp_jax.data.types import DatasetCorrupt

HEAD = 512
"""How many bytes `packed_as` and the archives' own checks need."""

_FREE = 64 << 20
_RATIO = 100
_CHUNK = 1 << 20


def limit(packed: int) -> int:
    """How many bytes `packed` bytes may unpack to: 64 MiB, or a hundred times as many if that is more."""
    return max(_FREE, _RATIO * packed)


def too_much(where: str, packed: int) -> DatasetCorrupt:
    """The error of data that unpack to more than that."""
    return DatasetCorrupt(
        f"{where} unpacks to more than {limit(packed) >> 20} MiB from {packed / 2**20:.1f} MiB, as no image set "
        "does: if it is one, unpack it yourself and give the folder"
    )


@functools.cache
def broken() -> tuple[type[Exception], ...]:
    """What the standard library raises on truncated and damaged archives and packed data."""
    damage = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, struct.error, OSError)
    misread = (NotImplementedError, RuntimeError, ValueError, LookupError, OverflowError, MemoryError)
    module = _zstd_module()
    return (*damage, *misread) if module is None else (*damage, *misread, module.ZstdError)


def packed_as(head: bytes) -> str | None:
    """gzip, bzip2, xz or Zstandard, by the first bytes; None for data that are not packed."""
    return next((kind for kind, (magic, _) in _KINDS.items() if head.startswith(magic)), None)


def unpack(data: bytes, where: str) -> bytes:
    """What is packed in `data`; `data` itself if nothing is.

    Raises:
        DatasetCorrupt: if it unpacks to more than its limit, or needs a package that is not installed.
    """
    kind = packed_as(data)
    if kind is None:
        return data
    return unpack_stream(io.BytesIO(data), kind, len(data), where)


def unpack_stream(stream: IO[bytes], kind: str, size: int, where: str) -> bytes:
    """All of a packed stream of `size` bytes, as `unpack`."""
    result = io.BytesIO()
    with _KINDS[kind][1](stream, where) as unpacked:
        while chunk := unpacked.read(_CHUNK):
            if result.tell() + len(chunk) > limit(size):
                raise too_much(where, size)
            result.write(chunk)
    return result.getvalue()


def head_of(stream: IO[bytes], kind: str, where: str) -> bytes:
    """The first bytes of what is packed in a stream."""
    with _KINDS[kind][1](stream, where) as unpacked:
        return bytes(unpacked.read(HEAD))


def _xz(stream: IO[bytes], where: str) -> IO[bytes]:
    """A reader of xz."""
    del where
    return lzma.open(stream)


def _zstd(stream: IO[bytes], where: str) -> Any:
    """A reader of Zstandard, which the standard library has from Python 3.14 on."""
    module = _zstd_module()
    if module is None:
        raise DatasetCorrupt(
            f"{where} is packed with Zstandard, which this Python cannot unpack: unpack it with `unzstd`, or install "
            "the package backports.zstd"
        )
    return module.ZstdFile(stream)


@functools.cache
def _zstd_module() -> Any:
    """The standard library's Zstandard or its backport; None if neither is there."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


_KINDS: dict[str, tuple[bytes, Callable[[IO[bytes], str], Any]]] = {
    "gzip": (b"\x1f\x8b", lambda stream, where: gzip.GzipFile(fileobj=stream)),
    "bzip2": (b"BZh", lambda stream, where: bz2.BZ2File(stream)),
    "xz": (b"\xfd7zXZ\0", _xz),
    "Zstandard": (b"\x28\xb5\x2f\xfd", _zstd),
}
