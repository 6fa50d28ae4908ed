"""Numeric arrays of MATLAB files of version 5 to 7, by the published description of the format.

SciPy's reader is not used on files from elsewhere: a damaged one can make it write beyond its memory.
"""

import math
import zlib
from collections.abc import Collection, Iterator

import numpy as np

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
# What an element holds, by its type; and what an array is, by its class.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x800


def arrays(data: bytes, names: Collection[str]) -> dict[str, np.ndarray]:
    """Read the real numeric arrays that have one of some names; other variables are passed over.

    Args:
        data: the file.
        names: the variables that are wanted.

    Returns:
        Arrays by name, in the types and shapes of their classes, column-major.

    Raises:
        ValueError: if the file is of another version, truncated or damaged.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if len(data) < _HEADER or order is None or data[125 if order == "<" else 124] != 1:
        raise ValueError("it does not begin as a MATLAB file of version 5")
    found = {}
    for kind, content in _elements(memoryview(data)[_HEADER:], order):
        if kind == _COMPRESSED:
            kind, content = _inflated(content, order)
        if kind == _MATRIX:
            name, array = _matrix(content, order, names)
            if array is not None:
                found[name] = array
    return found


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and content of each element; contents end on multiples of eight bytes, compressed ones anywhere."""
    place = 0
    while place < len(data):
        kind, length, start = _tag(data[place : place + 8], order)
        content = data[place + start : place + start + length]
        if len(content) < length:
            raise ValueError(f"an element of {length} bytes ends after {len(content)}")
        yield kind, content
        place += 8 if start == 4 else start + (length if kind == _COMPRESSED else -(-length // 8) * 8)


def _tag(tag: memoryview, order: str) -> tuple[int, int, int]:
    """Type of an element, its length, and where its content starts: inside the tag if it is small."""
    if len(tag) < 8:
        raise ValueError("it ends within the tag of an element")
    kind, length = (int(word) for word in np.frombuffer(tag, f"{order}u4"))
    if kind >> 16:
        if kind >> 16 > 4:
            raise ValueError(f"a small element holds {kind >> 16} bytes")
        return kind & 0xFFFF, kind >> 16, 4
    return kind, length, 8


def _inflated(content: memoryview, order: str) -> tuple[int, memoryview]:
    """Type and content of the element inside a compressed one; no more than it promises is unpacked."""
    unpacker = zlib.decompressobj()
    try:
        tag = unpacker.decompress(content, 8)
        kind, length, start = _tag(memoryview(tag), order)
        inner = unpacker.decompress(unpacker.unconsumed_tail, length) if start == 8 and length else b""
    except zlib.error as error:
        raise ValueError(f"an element does not unpack ({error})") from error
    if len(inner) < length:
        raise ValueError(f"an element of {length} bytes unpacks to {len(inner)}")
    return kind, memoryview(inner)


def _matrix(content: memoryview, order: str, names: Collection[str]) -> tuple[str, np.ndarray | None]:
    """The name of a variable, and its array if it is wanted, numeric and real."""
    parts = _elements(content, order)
    try:
        (_, flags), (_, sizes), (_, title) = next(parts), next(parts), next(parts)
    except StopIteration:
        raise ValueError("a variable has no name") from None
    if len(flags) < 4 or len(sizes) % 4:
        raise ValueError("a variable has no type or no shape")
    name, flag = bytes(title).decode("latin-1"), int(np.frombuffer(flags[:4], f"{order}u4")[0])
    if name not in names or flag & 0xFF not in _CLASSES or flag & _COMPLEX:
        return name, None
    shape = tuple(int(size) for size in np.frombuffer(sizes, f"{order}i4"))
    kind, values = next(parts, (0, memoryview(b"")))
    if kind not in _STORED or min(shape, default=-1) < 0:
        raise ValueError(f"{name} holds elements of type {kind} in shape {shape}")
    stored = np.dtype(f"{order}{_STORED[kind]}")
    if len(values) != math.prod(shape) * stored.itemsize:
        raise ValueError(f"{name} of shape {shape} has {len(values)} bytes, not {math.prod(shape) * stored.itemsize}")
    array = np.frombuffer(values, stored).astype(np.dtype(_CLASSES[flag & 0xFF]), copy=False)
    return name, array.reshape(shape, order="F")
