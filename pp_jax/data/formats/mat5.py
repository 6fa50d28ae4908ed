"""MATLAB files of versions 5 to 7: their arrays of numbers.

Read here and not by SciPy, whose reader ends the process on some damaged files. The format: a header of 128 bytes, then
elements of a tag (kind, size) and its content; a matrix is an element of elements, and may be compressed.
"""

import math
import struct
import zlib
from collections.abc import Collection, Iterator

import numpy as np

from pp_jax.data.packed import limit

_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x0800


def read(data: bytes, names: Collection[str]) -> dict[str, np.ndarray]:
    """Those arrays of a file that are called one of `names`.

    Raises:
        ValueError: if the file is truncated, damaged, of another version, or such an array is not one of real numbers.
    """
    if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
        raise ValueError(f"it is no MATLAB file of version 5 to 7; it starts with {data[:8].hex(' ') or 'nothing'}")
    order = "<" if data[126:128] == b"IM" else ">"
    found: dict[str, np.ndarray] = {}
    try:
        for kind, content in _elements(memoryview(data)[128:], order):
            inner = _inflated(content, order, limit(len(data))) if kind == _COMPRESSED else content
            if kind in (_MATRIX, _COMPRESSED):
                found |= _matrix(inner, order, names)
    except (struct.error, zlib.error) as error:
        raise ValueError(str(error)) from error
    return found


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Kind and content of one element after the other; contents are padded to eight bytes, but for compressed ones."""
    at = 0
    while at < len(data):
        (first,) = struct.unpack_from(f"{order}I", data, at)
        if first >> 16:
            kind, size, start, end = first & 0xFFFF, first >> 16, at + 4, at + 8
            if size > 4:
                raise ValueError(f"an element of {size} bytes within its tag")
        else:
            kind, size = struct.unpack_from(f"{order}II", data, at)
            start = at + 8
            end = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(data):
            raise ValueError(f"{len(data) - start} bytes where {size} are promised")
        yield kind, data[start : start + size]
        at = end


def _inflated(content: memoryview, order: str, most: int) -> memoryview:
    """The content of the matrix in a compressed element, no more than its tag promises and `most` bytes."""
    stream = zlib.decompressobj()
    tag = stream.decompress(content, 8)
    kind, size = struct.unpack(f"{order}II", tag)
    if kind != _MATRIX:
        raise ValueError(f"a compressed element of kind {kind}")
    if size > most:
        raise ValueError(f"a compressed element that promises {size} bytes, more than {most}")
    inner = stream.decompress(stream.unconsumed_tail, size) if size else b""
    rest = stream.decompress(stream.unconsumed_tail, 1) + stream.flush(1) if len(inner) == size else b""
    if len(inner) != size or rest or not stream.eof:
        raise ValueError(f"a compressed element of {len(inner)} bytes where {size} are promised")
    return memoryview(inner)


def _matrix(content: memoryview, order: str, names: Collection[str]) -> dict[str, np.ndarray]:
    """A matrix by its name, if it is one of `names`."""
    elements = _elements(content, order)
    flags, shape, name = (part for _, part in (next(elements, (0, memoryview(b""))) for _ in range(3)))
    called = bytes(name).decode("latin-1")
    if called not in names:
        return {}
    (bits,) = struct.unpack_from(f"{order}I", flags)
    kind, values = next(elements, (0, memoryview(b"")))
    if bits & 0xFF not in _CLASSES or bits & _COMPLEX or kind not in _STORED:
        raise ValueError(f"{called} is no array of real numbers")
    sizes = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    array = np.frombuffer(values, order + _STORED[kind])
    if min(sizes, default=-1) < 0 or math.prod(sizes) != len(array):
        raise ValueError(f"{called} has {len(array)} numbers where its shape is {sizes}")
    return {called: array.astype(_CLASSES[bits & 0xFF], copy=False).reshape(sizes, order="F")}
