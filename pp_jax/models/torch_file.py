"""State dicts of PyTorch, read without PyTorch and without running what a pickle asks for.

A pickle is a program. The reader below admits the few names that a state dict consists of, answers each of them with a
plain description of a tensor, and refuses the file by name at anything else. The arrays are made afterwards.
"""

import math
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

# The storage classes of PyTorch and what safetensors calls the same types.
_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
}  # fmt: skip
_SAFETENSORS = {
    "F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_NESTED = ("state_dict", "model_state_dict", "model")
_MAGIC = 0x1950A86A20F9469CFC6C
_DAMAGE = (
    pickle.UnpicklingError, zipfile.BadZipFile, EOFError, struct.error, ArithmeticError, LookupError, AttributeError,
    TypeError, ValueError, RuntimeError, MemoryError, OSError,
)  # fmt: skip


class _Refused(Exception):
    """A file names something that is no part of a state dict."""


class _Storage(NamedTuple):
    """A run of numbers in the file: `length` of them from the `start`-th on."""

    key: str
    dtype: str
    start: int
    length: int


class _Tensor(NamedTuple):
    """A tensor as it is described in the file."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        """Ignore what old files say about gradients."""


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a state dict: safetensors, or what `torch.save` writes, in its zip format or the one before.

    A dict under "state_dict", "model_state_dict" or "model" is taken in place of the whole, and the prefix "module."
    is dropped if all names have it. No code of the file is run.

    Args:
        path: the file.

    Returns:
        Tensors by name, in the order of the file, as read-only arrays of their own types and shapes.

    Raises:
        ValueError: if the file is in another format, damaged, names anything that is no part of a state dict (the
            message says what), or holds something else than tensors.
        OSError: if the file cannot be opened.
    """
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(0)
        try:
            if head[8:9] == b"{":
                return _unprefixed(_read_safetensors(file.read()))
            tensors, storages = _read_zip(file) if head.startswith(b"PK\x03\x04") else _read_old(file)
            return _unprefixed({name: _array(tensor, storages) for name, tensor in tensors.items()})
        except _Refused as error:
            raise ValueError(
                f"{path} must hold nothing but a state dict, as torch.save(model.state_dict(), path) writes it: {error}"
            ) from None
        except _DAMAGE as error:
            raise ValueError(f"{path} must be a whole file of safetensors or torch.save: {error}") from error


class _Unpickler(pickle.Unpickler):
    """Builds dicts, lists, numbers and descriptions of tensors; refuses every name that a state dict does not need."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")
        self.dtypes: dict[str, str] = {}
        # Made anew for each pickle, so that none can alter them for the next.
        self._admitted: dict[str, Any] = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor": lambda *description: _Tensor(*description),
            "torch._utils._rebuild_tensor_v2": lambda *description: _Tensor(*description[:4]),
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            "torch.nn.parameter.Parameter": lambda tensor, *_: tensor,
            **{f"torch.{name}Storage": dtype for name, dtype in _STORAGES.items()},
        }

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name."""
        if f"{module}.{name}" not in self._admitted:
            raise _Refused(f"it names {module}.{name}, which was not run")
        return self._admitted[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that ("storage", type, key, place, length[, (view's key, start, length)]) describes."""
        kind, dtype, key, _, length, *view = pid
        if kind != "storage" or dtype not in _STORAGES.values():
            raise ValueError(f"it describes a {kind} of {dtype}, not a storage of numbers")
        self.dtypes[key] = dtype
        start, length = view[0][1:] if view and view[0] else (0, length)
        return _Storage(key, dtype, start, length)


def _read_zip(file: IO[bytes]) -> tuple[dict[str, _Tensor], dict[str, bytes]]:
    """The state dict and the bytes of its storages, from an archive of data.pkl, data/0, data/1, …"""
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1 or any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("the archive is not one that torch.save has written")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist():
            _check_byte_order(archive.read(f"{folder}byteorder") == b"little")
        with archive.open(pickles[0]) as stream:
            unpickler = _Unpickler(stream)
            tensors = _state_dict(unpickler.load())
        return tensors, {key: archive.read(f"{folder}data/{key}") for key in unpickler.dtypes}


def _read_old(file: IO[bytes]) -> tuple[dict[str, _Tensor], dict[str, bytes]]:
    """The state dict and the bytes of its storages, from five pickles followed by the storages."""
    if file.read(1) != b"\x80":
        raise ValueError("it begins like neither")
    file.seek(0)
    if _Unpickler(file).load() != _MAGIC:
        raise ValueError("it is a pickle, but not of torch.save")
    _Unpickler(file).load()
    _check_byte_order(_Unpickler(file).load()["little_endian"])
    unpickler = _Unpickler(file)
    tensors = _state_dict(unpickler.load())
    storages = {}
    end = os.fstat(file.fileno()).st_size
    for key in _Unpickler(file).load():
        if key not in unpickler.dtypes:
            raise ValueError("it holds numbers that no tensor uses")
        size = int.from_bytes(file.read(8), "little") * np.dtype(unpickler.dtypes[key]).itemsize
        if size > end - file.tell():
            raise ValueError("it ends before its last tensor")
        storages[key] = file.read(size)
    return tensors, storages


def _check_byte_order(little: bool) -> None:
    """Refuse files of big-endian machines."""
    if not little:
        raise ValueError("it is in big-endian byte order")


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file."""
    from safetensors import SafetensorError, deserialize

    try:
        tensors = deserialize(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return {
        name: np.frombuffer(view["data"], np.dtype(_SAFETENSORS[view["dtype"]])).reshape(view["shape"])
        for name, view in tensors
    }


def _state_dict(tree: Any) -> dict[str, _Tensor]:
    """The state dict in what was saved: the whole, or the part under a customary name."""
    if isinstance(tree, Mapping):
        tree = next((tree[name] for name in _NESTED if isinstance(tree.get(name), Mapping)), tree)
    if not isinstance(tree, Mapping) or not tree:
        raise _Refused(f"it holds {'nothing' if tree == {} else type(tree).__name__}")
    for name, value in tree.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise _Refused(f"it holds {type(value).__name__} under {name!r}")
    return dict(tree)


def _unprefixed(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names without the prefix of `torch.nn.DataParallel`."""
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _array(tensor: _Tensor, storages: Mapping[str, bytes]) -> np.ndarray:
    """The array that a description selects from its storage, as a read-only view."""
    storage, offset, shape, strides = tensor
    dtype = np.dtype(storage.dtype)
    if len(shape) != len(strides) or not all(_natural(n) for n in (*storage[2:], offset, *shape, *strides)):
        raise ValueError("a tensor has no proper shape")
    flat = np.frombuffer(storages[storage.key], dtype)[storage.start : storage.start + storage.length]
    needed = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1
    if math.prod(shape) and needed > len(flat):
        raise ValueError("a tensor reaches beyond its storage")
    steps = tuple(step * dtype.itemsize for step in strides)
    return np.lib.stride_tricks.as_strided(flat[min(offset, len(flat)) :], shape, steps, writeable=False)


def _natural(number: Any) -> bool:
    """Whether this is 0, 1, 2, …"""
    return isinstance(number, int) and number >= 0
