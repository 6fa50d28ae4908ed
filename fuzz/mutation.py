"""Mutations that keep an input's frame whole, so that what lies behind checksums, archives and lengths is reached.

A mutator is a function of the input, a random generator and the fuzzer's own mutation of bytes; an input that it does
not understand is left to the fuzzer.
"""

import bz2
import gzip
import io
import itertools
import lzma
import pickle
import pickletools
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

from fuzz import bombs

Plain = Callable[[bytes], bytes]
Mutator = Callable[[bytes, random.Random, Plain], bytes]

NUMBERS = (0, 1, -1, 2, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
TEXTS = ("", "\n", "\x1b[2J", "é", "\ud800", "../x", "/etc/x", "a/b", "None", "float64", "object", "x" * 3000)


def numbers(data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """Replace a number, in digits or in binary, by one at which readers break; also inside gzip."""
    if data[:2] == b"\x1f\x8b" and rng.random() < 0.8:
        return gzip.compress(numbers(_inflated(data), rng, plain), mtime=0)
    digits = list(re.finditer(rb"\d+", data[:4096]))
    if digits and rng.random() < 0.4:
        found = rng.choice(digits)
        return data[: found.start()] + str(rng.choice(NUMBERS)).encode() + data[found.end() :]
    if len(data) >= 8 and rng.random() < 0.6:
        form = rng.choice(("<I", ">I", "<Q", ">Q", "<H", ">H"))
        place = rng.randrange(min(len(data), 256) - struct.calcsize(form) + 1)
        value = rng.choice(NUMBERS) % 2 ** (8 * struct.calcsize(form))
        return data[:place] + struct.pack(form, value) + data[place + struct.calcsize(form) :]
    return plain(data)


def _inflated(data: bytes) -> bytes:
    """The content of a gzip or zlib file, refused where it is large."""
    unpacker = zlib.decompressobj(wbits=47)
    content = unpacker.decompress(data, 1 << 20)
    if not unpacker.eof:
        raise ValueError("cut off, or more than a mutation should handle")
    return content


def in_zip(inner: Mutator | None = None) -> Mutator:
    """Change a member of a zip archive, its name, or how many there are, with checksums that are right."""

    def mutate(data: bytes, rng: random.Random, plain: Plain) -> bytes:
        if rng.random() < 0.2:
            return plain(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > 1 << 21:
                return plain(data)
            members = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
        place = rng.randrange(len(members))
        name, content, method = members[place]
        choice = rng.random()
        if choice < 0.75:
            change = inner if inner is not None and rng.random() < 0.8 else _plainly
            members[place] = (name, _attempt(change, content, rng, plain), method)
        elif choice < 0.85:
            members[place] = (_renamed(name, [other for other, _, _ in members], rng), content, method)
        elif choice < 0.9:
            members.append((_renamed(name, [name], rng), content, method))
        elif choice < 0.95:
            members[place] = (name, content, rng.choice((0, 8, 12, 14)))
        elif choice < 0.999:
            del members[place]
        else:
            members[place] = (name, bombs.gzip_of_nothing(), zipfile.ZIP_DEFLATED)
        return _zipped(members)

    return mutate


def _zipped(members: list[tuple[str, bytes, int]]) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content, method in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def _renamed(name: str, others: list[str], rng: random.Random) -> str:
    """A name with a part exchanged."""
    parts = re.split(r"([/._-])", rng.choice((name, *others)))
    parts[rng.randrange(len(parts))] = rng.choice((*TEXTS, "val", "train", "A", "1", "images", "__MACOSX", ".git"))
    # A zip archive holds names in UTF-8 only.
    return "".join(parts).encode("utf-8", "replace").decode()


def in_tar(data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """Change a tar archive inside its compression, and set the checksum of a header that was changed."""
    for magic, unpack, pack in (
        (b"\x1f\x8b", _inflated, lambda tar: gzip.compress(tar, mtime=0)),
        (b"BZh", bz2.decompress, bz2.compress),
        (b"\xfd7z", lzma.decompress, lzma.compress),
    ):
        if data.startswith(magic) and rng.random() < 0.85:
            return pack(in_tar(unpack(data), rng, plain))
    if len(data) < 512 or rng.random() < 0.3:
        return plain(data)
    start = 512 * rng.randrange(len(data) // 512)
    header = bytearray(data[start : start + 512])
    field, width = rng.choice(((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155)))
    values = (
        b"\0",
        b"0",
        b"7" * width,
        b"\x80" + bytes(width - 1),
        b"\xff" * width,
        rng.choice(b"01235xgLKSV7").to_bytes(),
    )
    value = rng.choice((*values, plain(bytes(header[field : field + width]))))
    header[field : field + width] = value[:width].ljust(width, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:start] + bytes(header) + data[start + 512 :]


def in_mat(data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """Change a MATLAB file of version 5, also inside a compressed element."""
    if len(data) > 136 and data[128] == 15 and rng.random() < 0.85:
        element = zlib.compress(numbers(_inflated(data[136:]), rng, plain))
        return data[:128] + struct.pack("<II", 15, len(element)) + element
    return data[:128] + numbers(data[128:], rng, plain) if rng.random() < 0.8 else plain(data)


def in_png(data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """Change a chunk of a PNG file, with the checksum that belongs to it; another picture as bytes."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or rng.random() < 0.2:
        return numbers(data, rng, plain)
    chunks, place = [], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    chosen = rng.randrange(len(chunks))
    name, content = chunks[chosen]
    choice = rng.random()
    if choice < 0.7:
        chunks[chosen] = (name, numbers(content, rng, plain))
    elif choice < 0.8:
        chunks[chosen] = (rng.choice((b"PLTE", b"tRNS", b"zTXt", b"iTXt", b"iCCP", b"acTL", b"fcTL", b"eXIf")), content)
    elif choice < 0.9:
        chunks.insert(chosen, rng.choice(chunks))
    else:
        del chunks[chosen]
    parts = (struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4) for kind, body in chunks)
    return data[:8] + b"".join(parts)


def in_pickle(data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """Exchange, repeat, remove or insert opcodes of a pickle; what follows the pickle stays."""
    if rng.random() < 0.15:
        return plain(data)
    spans, end = _opcodes(data)
    place = rng.randrange(len(spans))
    choice = rng.random()
    if choice < 0.3:
        spans[place] = _argument(spans[place], rng, plain)
    elif choice < 0.45:
        spans.insert(place, rng.choice(spans))
    elif choice < 0.6:
        spans.insert(place, rng.choice(bombs.OPCODES))
    elif choice < 0.7:
        spans.insert(place, pickle.dumps(rng.choice((*NUMBERS, *TEXTS[:4], 1.5, None, [], {}, ())), 2)[2:-1])
    elif choice < 0.85:
        del spans[place]
    else:
        other = rng.randrange(len(spans))
        spans[place], spans[other] = spans[other], spans[place]
    return b"".join(spans) + data[end:]


def _opcodes(data: bytes) -> tuple[list[bytes], int]:
    """The opcodes of all pickles at the start of the data, and where they end."""
    stream, spans, starts = io.BytesIO(data), [], []
    end = 0
    while data[end : end + 1] == b"\x80":
        stream.seek(end)
        starts = [place for _, _, place in pickletools.genops(stream)] + [stream.tell()]
        spans += [data[first:last] for first, last in itertools.pairwise(starts)]
        end = stream.tell()
    return spans, end


def _argument(opcode: bytes, rng: random.Random, plain: Plain) -> bytes:
    """An opcode with another argument."""
    if opcode[:1] in b"JMKhjqr\x8a" and rng.random() < 0.7:
        return pickle.dumps(rng.choice(NUMBERS), 2)[2:-1] if rng.random() < 0.6 else b"r" + rng.randbytes(4)
    return opcode[:1] + plain(opcode[1:])


def safely(mutator: Mutator) -> Mutator:
    """A mutator that leaves to the fuzzer what it does not understand."""
    return lambda data, rng, plain: _attempt(mutator, data, rng, plain)


def _plainly(data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """The fuzzer's own mutation."""
    del rng
    return plain(data)


def _attempt(mutator: Mutator, data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """What a mutator makes of the data; the fuzzer's own mutation where it fails."""
    try:
        return mutator(data, rng, plain)
    except Exception:
        return plain(data)
