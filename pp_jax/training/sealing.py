"""Whole checkpoints told from damaged ones, and one training's from another's, by a seal beside their files."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pp_jax import _files

_SEAL = "seal.json"
_ENTRIES = {"identity", "training", "sha256"}


def owner_of(
    identity: Mapping[str, Any], key: jax.Array, images: Any, like: Any, *, unlabelled: Any = None
) -> dict[str, Any]:
    """Whose checkpoints a folder holds: the caller's identity, and a digest of what else can be compared."""
    try:
        given = json.loads(json.dumps(dict(identity), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"identity must have a JSON form: {error}") from error
    leaves, _ = jax.tree_util.tree_flatten_with_path(like)
    shapes = [(jax.tree_util.keystr(path), leaf.shape, str(leaf.dtype)) for path, leaf in leaves]
    parts = [np.asarray(jax.random.key_data(key)).tolist(), np.shape(images), shapes]
    if unlabelled is not None:
        parts.append(np.shape(unlabelled))
    training = json.dumps(parts)
    return {"identity": given, "training": hashlib.sha256(training.encode()).hexdigest()}


def write_seal(path: Path, owner: Mapping[str, Any]) -> None:
    """Seal a checkpoint that has been written whole."""
    seal = {**owner, "sha256": _digest(path, owner)}
    _files.write_bytes(path / _SEAL, json.dumps(seal).encode())


def newest_whole(folder: Path, owner: Mapping[str, Any]) -> int | None:
    """The last epoch with a whole checkpoint; what is newer and not whole is removed, with a warning if damaged."""
    reasons = []
    useless = list(folder.glob("*.orbax-checkpoint-tmp*"))
    newest = None
    for epoch in sorted((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), reverse=True):
        reason = _damage(folder / str(epoch), owner)
        if reason is None:
            newest = epoch
            break
        useless.append(folder / str(epoch))
        reasons += [f"the checkpoint of epoch {epoch} {reason}"] * bool(reason)
    if reasons:
        begins = "anew" if newest is None else f"after epoch {newest}"
        warnings.warn(f"{folder}: {'; '.join(reasons)}: training goes on {begins}", stacklevel=3)
    for path in useless:
        shutil.rmtree(path)
    return newest


def _damage(path: Path, owner: Mapping[str, Any]) -> str | None:
    """What is wrong with a checkpoint: None if nothing is, "" if a kill came between writing and sealing it.

    orbax is only handed bytes that are known to be whole: it does not notice every flipped bit, and what it raises for
    those that it does notice is of any class, down to bare `Exception`.
    """
    try:
        seal = json.loads((path / _SEAL).read_bytes())
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, RecursionError) as error:
        return f"has no readable seal ({error})"
    if not isinstance(seal, dict) or set(seal) != _ENTRIES:
        return "has a seal without its entries"
    try:
        whole = seal["sha256"] == _digest(path, seal)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not whole:
        return "does not match its own SHA-256"
    _check_owner(path.parent, seal, owner)
    return None


def _check_owner(folder: Path, seal: Mapping[str, Any], owner: Mapping[str, Any]) -> None:
    """Refuse a folder of another training."""
    mine, theirs = (json.dumps(which["identity"], sort_keys=True) for which in (owner, seal))
    if mine != theirs:
        raise ValueError(f"{folder} holds the training of {theirs}, not of {mine}: must be another folder")
    if seal["training"] != owner["training"]:
        raise ValueError(
            f"{folder} holds a training with another key, network, optimiser or shape of images: must be another folder"
        )


def _digest(path: Path, owner: Mapping[str, Any]) -> str:
    """SHA-256 over a checkpoint's owner and the names and contents of its files."""
    digest = hashlib.sha256(json.dumps([owner["identity"], owner["training"]], sort_keys=True).encode())
    for file in sorted(file for file in path.rglob("*") if file.is_file() and file != path / _SEAL):
        with file.open("rb") as content:
            inner = hashlib.file_digest(content, "sha256").hexdigest()
        digest.update(json.dumps([file.relative_to(path).as_posix(), inner]).encode())
    return digest.hexdigest()
