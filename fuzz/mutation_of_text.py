"""Mutations of JSON and of what has JSON in it: records, checkpoints, journals, tables; checksums are set anew."""

import hashlib
import json
import random
import struct
from typing import Any

import numpy as np

from fuzz import bombs
from fuzz.mutation import NUMBERS, TEXTS, Plain, numbers


def in_json(data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """Exchange or remove a value somewhere in JSON."""
    if rng.random() < 0.25:
        return plain(data)
    return json.dumps(changed(json.loads(data), rng)).encode()


def changed(tree: Any, rng: random.Random) -> Any:
    """JSON with one value exchanged, renamed or removed."""
    values: tuple[Any, ...] = (
        None,
        True,
        -0.0,
        1e308,
        [],
        {},
        "",
        [[1]],
        {"a": {"": 1}},
        {"a.b": 1, "a": {"b": 2}},
        *NUMBERS,
        *TEXTS,
    )
    if not isinstance(tree, dict | list) or not tree or rng.random() < 0.15:
        return rng.choice((*values, [tree, tree], {"a": tree}))
    place = rng.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
    copy = tree.copy()
    if rng.random() < 0.1:
        value = copy.pop(place)
        if isinstance(copy, dict) and rng.random() < 0.5:
            copy[rng.choice(TEXTS)] = value
    else:
        copy[place] = changed(tree[place], rng)
    return copy


def in_request(data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """Change the JSON of a request, and mostly set the header that says how long it is."""
    if rng.random() < 0.2:
        return plain(data)
    length, _, body = data.partition(b"\n")
    end = int(length or len(body))
    text = in_json(body[:end], rng, plain)
    header = str(len(text) if rng.random() < 0.8 else rng.choice(NUMBERS)).encode() if length else b""
    return header + b"\n" + text + body[end:]


def cells(data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """Exchange, repeat or remove a cell or a line of a table."""
    if rng.random() < 0.2:
        return plain(data)
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    choice = rng.random()
    if choice < 0.2:
        lines.insert(place, rng.choice((*lines, b"", b"#", b"\xef\xbb\xbf1,2", b'"')))
    elif choice < 0.3:
        del lines[place]
    else:
        row = lines[place].split(b",")
        cell = rng.randrange(len(row))
        texts = (
            b"nan",
            b"inf",
            b"1e9",
            b"1e400",
            b"0x10",
            b"-1",
            b"1.5",
            b"",
            b" 7 ",
            b'"7"',
            b"\xff",
            b"\0",
            b"label",
        )
        row[cell] = rng.choice((*texts, str(rng.choice(NUMBERS)).encode(), plain(row[cell])))
        lines[place] = b",".join(row if choice < 0.9 else row[:cell] + row[cell + 1 :])
    return b"\n".join(lines)


def in_journal(data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """Change the header of an entry, with the checksum that belongs to it, or repeat the entry."""
    if rng.random() < 0.3:
        return plain(data)
    entries, place = [], 0
    while (stop := data.find(b"\n", place) + 1) > 0:
        header = json.loads(data[place:stop])
        size = _size_of(header)
        entries.append((header, data[stop : stop + size]))
        place = stop + size
    chosen = rng.randrange(len(entries))
    header, payload = entries[chosen]
    if rng.random() < 0.2:
        entries.insert(chosen, entries[chosen])
    elif rng.random() < 0.2:
        entries[chosen] = (header, plain(payload))
    else:
        header = changed(header, rng)
        if isinstance(header, dict) and "answered" in header:
            text = json.dumps(header["answered"]).encode()
            header["sha256"] = hashlib.sha256(text + payload).hexdigest()
        entries[chosen] = (header, payload)
    return b"".join(json.dumps(header).encode() + b"\n" + payload for header, payload in entries)


def _size_of(header: dict[str, Any]) -> int:
    """The bytes behind the header of an entry."""
    return sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape in header.get("answered", ()))


def in_safetensors(data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """Change the header of a safetensors file and set its length."""
    length = int.from_bytes(data[:8], "little")
    if rng.random() < 0.15:
        return plain(data)
    change = in_json if rng.random() < 0.7 else numbers
    header = change(data[8 : 8 + length], rng, plain)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def in_checkpoint(data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """Change a checkpoint's metadata or its list of empty dicts, with the checksum that belongs to it."""
    if rng.random() < 0.3:
        return in_safetensors(data, rng, plain)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    own = header["__metadata__"]
    name = rng.choice(("metadata", "empty"))
    own[name] = in_json(own[name].encode(), rng, plain).decode("utf-8", "replace")
    text = json.dumps(header).encode()
    return bombs.sealed_checkpoint(struct.pack("<Q", len(text)) + text + data[8 + length :])


def in_record(data: bytes, rng: random.Random, plain: Plain) -> bytes:
    """Change a record, and set the checksum that belongs to it."""
    from pp_jax.results.records import canonical

    if rng.random() < 0.3:
        return in_json(data, rng, plain)
    content = changed(json.loads(data), rng)
    if isinstance(content, dict):
        content.pop("sha256", None)
        content["sha256"] = canonical.digest(content)
    return json.dumps(content).encode()
