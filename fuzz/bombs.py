"""Small inputs that ask for much: memory, depth or time."""

import functools
import gzip
import hashlib
import json

OPCODES = (
    b"r\xff\xff\xff\x3f0",  # LONG_BINPUT at a place that takes gigabytes
    b"\x96" + (2**40).to_bytes(8, "little"),  # BYTEARRAY8 of a terabyte
    b"\x8e" + (2**40).to_bytes(8, "little"),  # BINBYTES8
    b"\x8d" + (2**40).to_bytes(8, "little"),  # BINUNICODE8
    b"\x8b\xff\xff\xff\x7f",  # LONG4
    b"\x95" + (2**62).to_bytes(8, "little"),  # FRAME
    b"]" * 1000 + b"a" * 999,  # lists in lists
    b")" + b"2\x86" * 40,  # a tuple of twice itself, and so on
    b")" + b"2\x86" * 40 + b"K\x01s",  # the same as a key
    b"}", b"]", b")", b"(", b"0", b"1", b"2", b"N", b"\x88", b"a", b"e", b"s", b"u", b"t", b"\x85", b"R", b"Q", b"b",
    b"o", b"\x81", b"\x92", b"\x93", b"\x90", b"\x91", b".", b"\x97", b"\x98", b"\x94",
    b"cos\nsystem\n", b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n", b"ctorch\nSize\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n", b"cnumpy\nndarray\n",
    b"cargparse\nNamespace\n", b"cnumpy.core.multiarray\nscalar\n", b"cnumpy\ndtype\n", b"ctorch\ndevice\n",
    b"X\x04\x00\x00\x00os\n\x1bX\x06\x00\x00\x00system\x93",  # a module whose name breaks the line
)  # fmt: skip


@functools.cache
def gzip_of_nothing() -> bytes:
    """Half a megabyte, itself of many zeros, that unpacks to more than a case may hold."""
    return gzip.compress(bytes(700 << 20), 9, mtime=0)


def sealed_checkpoint(data: bytes) -> bytes:
    """A checkpoint with the checksum of its content."""
    import numpy as np
    from safetensors import deserialize

    from pp_jax.results import checkpoints

    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    arrays = {
        name: np.frombuffer(view["data"], np.dtype(checkpoints._DTYPES[view["dtype"]])).reshape(view["shape"])
        for name, view in deserialize(data)
    }
    own = header["__metadata__"]
    digest = hashlib.sha256(json.dumps([own.get("metadata"), own.get("empty")]).encode())
    for name in sorted(arrays):
        digest.update(json.dumps([name, str(arrays[name].dtype), arrays[name].shape]).encode())
        digest.update(arrays[name].tobytes())
    own["sha256"] = digest.hexdigest()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
