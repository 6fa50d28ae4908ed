"""What a file is that was given in place of weights, by its first bytes: for messages that say so."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

TORCH = "it holds weights of PyTorch"

_AGAIN = "fetch the file again"
_UNPACK = "unpack it first"
_PYTORCH = "weights of PyTorch are needed"
_STARTS = {
    b"version https://git-lfs": "it is a Git LFS pointer, not the file that it stands for: run git lfs pull",
    b"\x89HDF\r\n\x1a\n": f"it is HDF5, as Keras writes it (.h5): {_PYTORCH}",
    b"\x1f\x8b": f"it is compressed by gzip: {_UNPACK}",
    b"BZh": f"it is compressed by bzip2: {_UNPACK}",
    b"\xfd7zXZ\0": f"it is compressed by xz: {_UNPACK}",
    b"\x28\xb5\x2f\xfd": f"it is compressed by zstd: {_UNPACK}",
    b"7z\xbc\xaf\x27\x1c": f"it is a 7z archive: {_UNPACK}",
    b"Rar!": f"it is a RAR archive: {_UNPACK}",
    b"\x93NUMPY": f"it is one NumPy array (.npy): {_PYTORCH}",
    b"GGUF": f"it is GGUF: {_PYTORCH}",
    b"\x89PNG": "it is a PNG picture",
    b"\xff\xd8\xff": "it is a JPEG picture",
    b"%PDF": "it is a PDF document",
    b"model_checkpoint_path:": f"it is the index of a TensorFlow checkpoint: {_PYTORCH}",
}
# An ONNX model is a protocol buffer that begins with field 1, a small version, and then a field that holds text.
_ONNX = re.compile(rb"\x08[\x01-\x1f][\x12\x1a\x22\x32\x3a\x42]", re.S)
_HTML = re.compile(rb"\s*<(!doctype html|html|head|\?xml)", re.I)
# A tar archive has this behind its first name; the end of TensorFlow's .index is the magic number of a LevelDB table.
_TAR, _TAR_AT = b"ustar", 257
_TABLE = bytes.fromhex("57fb808b247547db")
_FOLDERS = {
    "saved_model.pb": f"it is a SavedModel of TensorFlow: {_PYTORCH}",
    "_METADATA": "it is a checkpoint of Orbax: write the weights with pp_jax.checkpoints.save",
    "_CHECKPOINT_METADATA": "it is a checkpoint of Orbax: write the weights with pp_jax.checkpoints.save",
    ".metadata": "it is a distributed checkpoint of PyTorch: join it first, with "
    "python -m torch.distributed.checkpoint.format_utils dcp_to_torch",
}


def what_it_is(path: Path) -> str:
    """A clause such as "it is a Git LFS pointer, …"; "" for a file of no known format, or one that cannot be opened.

    Weights as `torch.save` writes them give `TORCH`.
    """
    if path.is_dir():
        return next((what for name, what in _FOLDERS.items() if (path / name).exists()), "it is a folder")
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        head = file.read(512)
        size = file.seek(0, 2)
        file.seek(max(size - len(_TABLE), 0))
        tail = file.read()
    if not head:
        return "it is empty"
    if head.startswith(b"PK"):
        return _archive(path)
    if head.startswith(b"\x80") and b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in head[:32]:
        return TORCH
    if tail == _TABLE:
        return f"it is the index of a TensorFlow checkpoint: {_PYTORCH}"
    return _by_first_bytes(head)


def _by_first_bytes(head: bytes) -> str:
    """What begins like this."""
    for start, what in _STARTS.items():
        if head.startswith(start):
            return what
    if _HTML.match(head):
        return f"it is an HTML page, most likely the answer of a server: {_AGAIN}"
    if head[:1] in (b"{", b"[") and b"\0" not in head[:8]:  # the length of a header of safetensors ends in zeros
        return f"it is JSON: {_PYTORCH}"
    if head[_TAR_AT:].startswith(_TAR):
        return f"it is a tar archive, as PyTorch wrote before version 0.1.10 or as files are packed: {_UNPACK}"
    if head[4:8] == b"TFL3":
        return f"it is a model of TensorFlow Lite: {_PYTORCH}"
    if _ONNX.match(head):
        return f"it is an ONNX model: {_PYTORCH}"
    return ""


def _archive(path: Path) -> str:
    """What a zip archive holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "it is a damaged zip archive or half a download of weights of PyTorch"
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends or any(name.split("/")[1:2] == ["code"] for name in names):
        return "it is TorchScript: save its weights, torch.save(torch.jit.load(path).state_dict(), other)"
    if "archive_format" in ends or any(name.endswith("serialized_exported_program.json") for name in names):
        return (
            "it is a program of torch.export: save its weights, torch.save(torch.export.load(path).state_dict, other)"
        )
    if "data.pkl" in ends:
        return TORCH
    if "model.weights.h5" in ends:
        return f"it is a model of Keras: {_PYTORCH}"
    if names and all(name.endswith(".npy") for name in names):
        return f"it is an archive of NumPy arrays (.npz): {_PYTORCH}"
    shown = f" with {names[0]}" if names else ""
    return f"it is a zip archive{shown}: {_UNPACK}"
