"""Whole checkpoints told from damaged ones, and one training's from another's, by a seal beside their files."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pp_jax import _files
from pp_jax.training.fingerprint import differences

FOLDER = "pp_jax-training"
"""The folder of our own in the one that the user gives: what else is in that is never looked at."""
STATE = "state"
"""What orbax writes, in the folder of its epoch."""
_SEAL = "seal.json"
_EPOCH = (r"seal\.json", r"\.seal\.json\.[0-9a-f]+\.tmp", f"{STATE}/.*", rf"{STATE}\.orbax-checkpoint-tmp.*")
_ENTRIES = {"identity", "training", "sha256"}


def open_folder(folder: Path) -> Path:
    """The folder of our own, with a folder an epoch, made when missing.

    Raises:
        ValueError: something else has its name.
        OSError: it cannot be written.
    """
    holds = ("lock", "[0-9]+/", *(f"[0-9]+/{pattern}" for pattern in _EPOCH))
    return _files.own_folder(folder / FOLDER, "checkpoints of a training", holds=holds)


def write_seal(path: Path, owner: Mapping[str, Any]) -> None:
    """Seal a checkpoint that has been written whole."""
    seal = {**owner, "sha256": _digest(path, owner)}
    _files.write_bytes(path / _SEAL, json.dumps(seal).encode())


def forget(path: Path) -> None:
    """Remove a checkpoint, its seal first: killed in between, it counts for nothing."""
    _files.remove(path, [_EPOCH[0]])
    _files.remove(path, _EPOCH)


def newest_whole(own: Path, owner: Mapping[str, Any], *, most: int) -> int | None:
    """The last epoch with a whole checkpoint; what is newer and not whole is removed, with a warning if damaged.

    Args:
        own: the folder of our own.
        owner: whose checkpoints they must be (`fingerprint.owner_of`).
        most: the epoch to which training goes.

    Raises:
        ValueError: the checkpoints are another training's, or all of later epochs; they stay.
    """
    reasons, useless = [], []
    newest = None
    for epoch in epochs(own):
        reason = _damage(own / str(epoch), owner)
        if reason is None and epoch <= most:
            newest = epoch
            break
        if reason is None:
            if not (own / str(most)).is_dir():
                raise ValueError(
                    f"{own.parent} holds {epoch} epochs of this training, and the recipe asks for {most}: must be "
                    f"another folder, or at least {epoch} epochs"
                )
            continue
        useless.append(own / str(epoch))
        reasons += [f"the checkpoint of epoch {epoch} {reason}"] * bool(reason)
    if reasons:
        begins = "anew" if newest is None else f"after epoch {newest}"
        warnings.warn(f"{own.parent}: {'; '.join(reasons)}: training goes on {begins}", stacklevel=3)
    for path in useless:
        forget(path)
    return newest


def epochs(own: Path) -> list[int]:
    """The epochs that have a checkpoint of ours, whole or not, the newest first."""
    names = [path.name for path in own.iterdir() if path.name.isdecimal() and path.name == str(int(path.name))]
    found = [name for name in names if (own / name / _SEAL).exists() or any((own / name).glob(f"{STATE}*"))]
    return sorted(map(int, found), reverse=True)


def warn_of_old(folder: Path) -> None:
    """Say so where version 0.1 left checkpoints; they are in folders of numbers beside ours, and stay."""
    if any((path / _SEAL).is_file() for path in folder.iterdir() if path.name.isdecimal()):
        warnings.warn(
            f"{folder} has checkpoints of version 0.1, which are left as they are: training begins anew", stacklevel=3
        )


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
    _check_owner(path.parent.parent, seal, owner)
    return None


def _check_owner(folder: Path, seal: Mapping[str, Any], owner: Mapping[str, Any]) -> None:
    """Refuse a folder of another training."""
    mine, theirs = (json.dumps(which["identity"], sort_keys=True) for which in (owner, seal))
    if mine != theirs:
        raise ValueError(f"{folder} holds the training of {theirs}, not of {mine}: must be another folder")
    if seal["training"] != owner["training"]:
        others = ", ".join(differences(seal["training"], owner["training"]))
        raise ValueError(f"{folder} holds a training with {others}: must be another folder")


def _digest(path: Path, owner: Mapping[str, Any]) -> str:
    """SHA-256 over a checkpoint's owner and the names and contents of its files."""
    digest = hashlib.sha256(json.dumps([owner["identity"], owner["training"]], sort_keys=True).encode())
    for file in sorted(file for file in (path / STATE).rglob("*") if file.is_file()):
        with file.open("rb") as content:
            inner = hashlib.file_digest(content, "sha256").hexdigest()
        digest.update(json.dumps([file.relative_to(path).as_posix(), inner]).encode())
    return digest.hexdigest()
