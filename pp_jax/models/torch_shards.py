"""Weights in several files: which files an index, or a folder with one, stands for."""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pp_jax import _formats
from pp_jax._messages import one_line

_INDEX = ".index.json"
# In the order in which a folder is searched.
_WHOLE = (
    "model.safetensors", "pytorch_model.bin", "model.pth", "model.pt", "checkpoint.pth.tar", "model_best.pth.tar",
)  # fmt: skip
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.\w+$")
# Missing files or names that a message lists.
_SHOWN = 5


def files(path: Path) -> list[Path]:
    """The files that hold the weights of a path: itself, or those that the index names, in its order.

    Raises:
        ValueError: for one of several files, a folder without an index or weights of a customary name, an index that
            is damaged or names files outside its folder, and files that are missing.
        OSError: if the path does not exist or the index cannot be read.
    """
    path = entry(path)
    if path.name.endswith(_INDEX):
        return _indexed(path)
    shard = _SHARD.search(path.name)
    if shard and int(shard[2]) > 1:
        raise ValueError(
            f"{path} is file {int(shard[1])} of {int(shard[2])}: give their index (…{_INDEX}), or the folder"
        )
    return [path]


def check_whole(path: Path, names: Collection[str]) -> None:
    """Refuse files that lack tensors which their index promises."""
    path = entry(path)
    if not path.name.endswith(_INDEX):
        return
    lacking = [name for name in _weight_map(path) if name not in names]
    if lacking:
        raise ValueError(one_line(f"{path} names tensors that its files lack: {_listed(lacking)}"))


def entry(path: Path) -> Path:
    """The file that a folder stands for, its index or its only weights; any other path as it is."""
    if not path.is_dir():
        return path
    indices = sorted(path.glob(f"*{_INDEX}"))
    # Weights are often kept twice, in both formats.
    preferred = [index for index in indices if ".safetensors." in index.name] or indices
    if len(preferred) > 1:
        raise ValueError(f"{path} holds several: give one of {', '.join(index.name for index in preferred)}")
    whole = [path / name for name in _WHOLE if (path / name).is_file()]
    if not preferred and not whole:
        raise ValueError(
            f"{path} must be a file of weights, or a folder with model.safetensors{_INDEX}, model.safetensors or "
            f"pytorch_model.bin: {_formats.what_it_is(path)}"
        )
    return (preferred or whole)[0]


def _indexed(index: Path) -> list[Path]:
    """The files that an index names, each once."""
    named = _weight_map(index).values()
    for name in named:
        plain = isinstance(name, str) and name.isprintable() and "\\" not in name
        if not plain or name in ("", "..") or Path(name).name != name or len(name.encode()) > 255:
            raise ValueError(one_line(f"{index} names the file {name!r}: must be a name in the folder of the index"))
    names = list(dict.fromkeys(named))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ValueError(f"{index} needs {len(names)} files: {_listed(missing)} must be beside it")
    return [index.parent / name for name in names]


def _weight_map(index: Path) -> dict[str, Any]:
    """File by tensor."""
    try:
        tree = json.loads(index.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        what = _formats.what_it_is(index) or str(error)
        raise ValueError(f"{index} must be the index of several files of weights, in JSON: {what}") from error
    found = tree.get("weight_map") if isinstance(tree, dict) else None
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{index} must have a weight_map from tensors to files")
    return found


def _listed(names: list[str]) -> str:
    """The first few, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
