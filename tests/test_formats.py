"""Files that are given in place of weights are named as what they are."""

import gzip
import io
import re
import tarfile
import zipfile

import numpy as np
import pytest

from pp_jax import _formats
from torch_files import SAVED


def zipped(*names, compression=zipfile.ZIP_STORED):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as archive:
        for name in names:
            archive.writestr(name, b"x")
    return data.getvalue()


def tarred():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return data.getvalue()


def npz():
    data = io.BytesIO()
    np.savez(data, a=np.ones(2))
    return data.getvalue()


FILES = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "Git LFS pointer.*git lfs pull"),
    "html": (b"\n<!DOCTYPE html><html></html>", "HTML page"),
    "xml": (b"<?xml version='1.0'?><Error/>", "HTML page"),
    "json": (b'{"layers": 3}', "it is JSON"),
    "empty": (b"", "it is empty"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), r"HDF5, as Keras writes it \(\.h5\)"),
    "gzip": (gzip.compress(b"x"), "compressed by gzip: unpack it"),
    "tar": (tarred(), "tar archive, as PyTorch wrote"),
    "npy": (b"\x93NUMPY\x01\x00", r"one NumPy array \(\.npy\)"),
    "npz": (npz(), r"NumPy arrays \(\.npz\)"),
    "keras": (zipped("metadata.json", "config.json", "model.weights.h5"), "model of Keras"),
    "torchscript": (zipped("w/data.pkl", "w/constants.pkl", "w/code/__torch__.py"), r"TorchScript.*state_dict\(\)"),
    "export": (zipped("w/archive_format", "w/data/weights/w"), r"torch\.export"),
    "zip": (zipped("w.pth", compression=zipfile.ZIP_DEFLATED), r"zip archive with w\.pth: unpack it"),
    "half a zip": (zipped("w/data.pkl")[:40], "half a download"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0", "ONNX model"),
    "tflite": (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
    "tf index": (bytes(40) + bytes.fromhex("57fb808b247547db"), "TensorFlow checkpoint"),
    "tf checkpoint": (b'model_checkpoint_path: "model.ckpt-1"\n', "TensorFlow checkpoint"),
    "png": (b"\x89PNG\r\n\x1a\n", "PNG picture"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_weights_are_named(tmp_path, name):
    data, message = FILES[name]
    (tmp_path / "w.pth").write_bytes(data)
    found = _formats.what_it_is(tmp_path / "w.pth")
    assert re.search(message, found)
    assert found.startswith("it is ")
    assert "\n" not in found


@pytest.mark.parametrize("name", SAVED)
def test_weights_of_pytorch_are_told_by_their_first_bytes(name):
    assert _formats.what_it_is(SAVED[name]) == _formats.TORCH


def test_what_is_not_known_has_no_name(tmp_path):
    (tmp_path / "w").write_bytes(b"some text")
    assert _formats.what_it_is(tmp_path / "w") == ""
    assert _formats.what_it_is(tmp_path / "absent") == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("saved_model.pb", "SavedModel of TensorFlow"),
        ("_METADATA", "checkpoint of Orbax"),
        (".metadata", "distributed checkpoint of PyTorch.*dcp_to_torch"),
        ("other", "it is a folder"),
    ],
)
def test_folders_are_named_by_what_is_in_them(tmp_path, name, message):
    (tmp_path / name).touch()
    assert re.search(message, _formats.what_it_is(tmp_path))
