"""Checkpoints without pickle: nested dicts of arrays in one safetensors file, with metadata and a checksum."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax import _files, _formats

FORMAT = "pp_jax.checkpoint/1"
"""Which every file of ours has in its header."""
# What both the file format and JAX know.
_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
}  # fmt: skip

_COMMAND = "python -m pp_jax.models import-torch --model MODEL FILE --out PATH"
_IMPORT = f"weights of PyTorch are imported first: {_COMMAND}"


def save(path: str | os.PathLike[str], params: Mapping[str, Any], *, metadata: Mapping[str, Any]) -> Path:
    """Write a nested dict of arrays to one safetensors file, atomically.

    Tensors are named by their paths, ``params/Dense_0/kernel``. The header keeps the metadata as JSON and a SHA-256
    over names, types, shapes, values and metadata.

    Args:
      path: the file, ~ being the home folder; its folder is made when missing.
      params: nested dicts with string keys and arrays as leaves, such as Flax variables.
      metadata: JSON values: what a reader needs to use the parameters.

    Returns:
      The path.

    Raises:
      ValueError: a key, a leaf or the metadata has no place in the format; a file that we did not write is there.
      OSError: the folder cannot be written or the disk is full; nothing half-written is left.
    """
    from safetensors.numpy import save as to_bytes

    if not isinstance(params, Mapping):
        raise ValueError(f"params is of type {type(params).__name__}: must be a nested dict of arrays")
    leaves = dict(_leaves(params))
    arrays = {name: _array(name, leaf) for name, leaf in leaves.items() if not isinstance(leaf, Mapping)}
    header = {
        "format": FORMAT,
        "metadata": _metadata_json(metadata),
        "empty": json.dumps([name for name in leaves if name not in arrays]),
    }
    header["sha256"] = _checksum(arrays, header)
    return _files.write_bytes(path, to_bytes(arrays, metadata=header), mark=FORMAT.encode())


def load(path: str | os.PathLike[str], *, like: Any = None) -> tuple[Any, dict[str, Any]]:
    """Read a checkpoint, checked against its own checksum and, if given, against the tree it must fit.

    Args:
      path: a file that `save` made; ~ is the home folder.
      like: nested dict of arrays or `jax.ShapeDtypeStruct`: names, shapes and types that the parameters must have.

    Returns:
      The parameters (nested dicts of JAX arrays; the tree type of ``like`` where given) and the metadata.

    Raises:
      ValueError: the file is damaged, no checkpoint (the message says what it is), or does not fit ``like``.
      OSError: the file cannot be read.
    """
    path = _files.expanded(path)
    arrays, header = _read(path)
    _require(header.get("sha256") == _checksum(arrays, header), path, "must match its own SHA-256: it is damaged")
    leaves = {name: jnp.asarray(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        _require(leaves[name].dtype == array.dtype, path, f"holds {name} in {array.dtype}: needs jax_enable_x64")
    params = _nested({**leaves, **{name: {} for name in json.loads(header["empty"])}})
    metadata = json.loads(header["metadata"])
    if like is not None:
        _check_fit(path, dict(_leaves(params)), dict(_leaves(like)), metadata.get("model"))
        params = jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(params))
    return params, metadata


def _leaves(tree: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Path and value of every array, and of every empty dict."""
    if not isinstance(tree, Mapping) or (prefix and not tree):
        yield "/".join(prefix), tree
        return
    # Sorted as JAX sorts dicts, so that leaves line up with those of `jax.tree`.
    for name in sorted(tree, key=str):
        if not isinstance(name, str) or not name or "/" in name or (name == "__metadata__" and not prefix):
            raise ValueError(f"params has the key {name!r}: keys must be non-empty strings without '/'")
        yield from _leaves(tree[name], (*prefix, name))


def _nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `_leaves`."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = leaf
    return tree


def _array(name: str, leaf: Any) -> np.ndarray:
    """A leaf on the host, C-contiguous, of a type that the format knows."""
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        raise ValueError(f"params has {type(leaf).__name__} at {name}: leaves must be arrays in nested dicts")
    if str(leaf.dtype) not in _DTYPES.values():
        raise ValueError(f"params has dtype {leaf.dtype} at {name}: must be one of {', '.join(_DTYPES.values())}")
    return np.asarray(leaf, order="C")


def _metadata_json(metadata: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(metadata), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must have a JSON form: {error}") from error


def _checksum(arrays: Mapping[str, np.ndarray], header: Mapping[str, str]) -> str:
    """SHA-256 over everything that a reader will use."""
    digest = hashlib.sha256(json.dumps([header.get("metadata"), header.get("empty")]).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and header of a safetensors file."""
    from safetensors import SafetensorError, deserialize

    _require(not path.is_dir(), path, f"must be a file that pp_jax.checkpoints.save wrote, not a folder; {_IMPORT}")
    data = path.read_bytes()
    try:
        tensors = deserialize(data)
    except SafetensorError as error:
        what = _formats.what_it_is(path) or error
        needed = f"{what}, which are imported first: {_COMMAND}" if what == _formats.TORCH else what
        raise ValueError(f"checkpoint {path} must be a whole safetensors file: {needed}") from error
    # The reader has just checked that the header is there and is JSON.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    written = header.get("format") == FORMAT
    _require(written, path, f"must be written by pp_jax.checkpoints.save; {_IMPORT}")
    for name, view in tensors:
        _require(view["dtype"] in _DTYPES, path, f"holds {name} in {view['dtype']}, which pp_jax does not write")
    arrays = {
        name: np.frombuffer(view["data"], np.dtype(_DTYPES[view["dtype"]])).reshape(view["shape"])
        for name, view in tensors
    }
    return arrays, header


def _check_fit(path: Path, found: Mapping[str, Any], required: Mapping[str, Any], model: str | None) -> None:
    """Names, shapes and types must be those required; where they are not, say what the weights are of."""
    of = "" if model is None else f"; it holds weights of {model}"
    missing, surplus = sorted(set(required) - set(found)), sorted(set(found) - set(required))
    _require(not missing, path, f"must hold {', '.join(missing)}{of}")
    _require(not surplus, path, f"must not hold {', '.join(surplus)}{of}")
    for name, leaf in required.items():
        mine, theirs = _signature(found[name]), _signature(leaf)
        _require(mine == theirs, path, f"must hold {name} as {theirs}, not {mine}{of}")


def _signature(leaf: Any) -> str:
    return "empty dict" if isinstance(leaf, Mapping) else f"{leaf.dtype}{list(leaf.shape)}"


def _require(holds: bool, path: Path, requirement: str) -> None:
    if not holds:
        raise ValueError(f"checkpoint {path} {requirement}")
