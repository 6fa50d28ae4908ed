"""State dicts of PyTorch, read without PyTorch and without running what a pickle asks for."""

import hashlib
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pp_jax import _files, _formats
from pp_jax.models import torch_container, torch_shards, torch_state
from pp_jax.models.torch_pickle import Odd

_DTYPES = (
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
)  # fmt: skip
# What safetensors calls them.
_SAFETENSORS = {
    "F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
}  # fmt: skip
_DAMAGE = (
    pickle.UnpicklingError, zipfile.BadZipFile, EOFError, struct.error, ArithmeticError, LookupError, AttributeError,
    TypeError, ValueError, RuntimeError, MemoryError, OSError,
)  # fmt: skip


class _Unsupported(Exception):
    """A tensor is no plain array of a type that networks are made of."""


def read(path: str | os.PathLike[str], *, key: str | None = None) -> dict[str, np.ndarray]:
    """Read a state dict: safetensors, or what `torch.save` writes, in its zip format or the one before.

    What stands beside the weights in a checkpoint, such as an optimizer or the class of the network, is not needed: no
    code of the file is run and no class of it is imported. The weights may lie under any key and at any depth, in a
    module that was saved whole, or in several files: give their index, `model.safetensors.index.json`, or the folder.
    The prefixes of wrappers that all names have, such as "module._orig_mod.", are dropped.

    Args:
        path: the file, the index of several, or their folder; ~ is the home folder.
        key: where the weights are if the file holds several, such as "state_dict_ema".

    Returns:
        Tensors by name, in the order of the file (safetensors: of the names), as read-only arrays of their own types
        and shapes.

    Raises:
        ValueError: if the file is in another format (the message says in which), damaged, or holds no weights, several
            without a `key`, or tensors that are no plain arrays of floats, integers or truth values.
        OSError: if the file cannot be opened.
    """
    path = _files.expanded(path)
    try:
        tensors: dict[str, np.ndarray] = {}
        for file in torch_shards.files(path):
            tensors |= _read(file, key)
        torch_shards.check_whole(path, tensors)
    except torch_state.Refused as error:
        raise ValueError(
            f"{path} must hold one state dict, as torch.save(model.state_dict(), path) does: {error}"
        ) from None
    return torch_state.unprefixed(tensors)


def sha256(path: Path) -> str:
    """The digest of a file, or of all files that an index or a folder stands for, one after the other."""
    digest = hashlib.sha256()
    for file in torch_shards.files(path):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _read(path: Path, key: str | None) -> dict[str, np.ndarray]:
    """The tensors of one file."""
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(0)
        try:
            if head[8:9] == b"{":
                if key is not None:
                    raise torch_state.Refused(f"safetensors have no keys such as {key!r}")
                return _read_safetensors(file.read())
            saved = (torch_container.open_zip if head.startswith(b"PK\x03\x04") else torch_container.open_old)(file)
            return _arrays(torch_state.find(saved.tree, key), saved)
        except _Unsupported as error:
            raise ValueError(
                f"{path} holds {error}, which is not supported: convert it to float16 or float32, dense, and save again"
            ) from None
        except _DAMAGE as error:
            what = _formats.what_it_is(path)
            why = error if what in ("", _formats.TORCH) else what
            raise ValueError(f"{path} must be a whole file of safetensors or torch.save: {why}") from error


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file."""
    from safetensors import SafetensorError, deserialize

    try:
        tensors = deserialize(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if b'"pp_jax.checkpoint/1"' in data[: 8 + int.from_bytes(data[:8], "little")]:
        raise torch_state.Refused("it is converted already, a checkpoint of pp_jax: use it as it is")
    arrays = {}
    for name, view in sorted(tensors, key=lambda tensor: tensor[0]):
        dtype = _supported(_SAFETENSORS.get(view["dtype"], view["dtype"]), name)
        arrays[name] = np.frombuffer(view["data"], dtype).reshape(view["shape"])
    return arrays


def _arrays(tensors: Mapping[str, Any], saved: torch_container.Saved) -> dict[str, np.ndarray]:
    """The arrays that descriptions select, their storages read once each."""
    for name, tensor in tensors.items():
        if isinstance(tensor, Odd):
            raise _Unsupported(f"{tensor.what} under {name!r}")
        _supported(tensor.storage.dtype, name)
    storages = saved.storages(dict.fromkeys(tensor.storage.key for tensor in tensors.values()))
    return {name: _array(tensor, storages) for name, tensor in tensors.items()}


def _supported(dtype: str, name: str) -> np.dtype:
    """NumPy's type of this name, if networks are made of it."""
    if dtype not in _DTYPES:
        raise _Unsupported(f"{dtype} under {name!r}")
    return np.dtype(dtype)


def _array(tensor: Any, storages: Mapping[str, bytes]) -> np.ndarray:
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
