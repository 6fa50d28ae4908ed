"""Weights in several files are read through their index; what is missing is named, and no index leads elsewhere."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from pp_jax.models import torch_file
from torch_files import assert_same, state_code, zip_file

STATE = {f"layer{i}.weight": np.full(3, i, np.float32) for i in range(4)}
NAMES = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]


def sharded(folder, *, names=tuple(NAMES), index="model.safetensors.index.json", write=save_file):
    """Two files and their index."""
    halves = [dict(list(STATE.items())[:2]), dict(list(STATE.items())[2:])]
    for name, half in zip(names, halves, strict=True):
        write(half, folder / name)
    weight_map = {tensor: name for name, half in zip(names, halves, strict=True) for tensor in half}
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 48}, "weight_map": weight_map}))
    return folder / index


def test_an_index_and_its_folder_are_read(tmp_path):
    index = sharded(tmp_path)
    for path in (index, tmp_path, str(tmp_path)):
        assert_same(torch_file.read(path), STATE)


def test_several_files_of_pytorch_are_read(tmp_path):
    names = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    sharded(
        tmp_path,
        names=names,
        index="pytorch_model.bin.index.json",
        write=lambda state, path: zip_file(path, *state_code(state)),
    )
    assert_same(torch_file.read(tmp_path), STATE)


def test_safetensors_are_preferred_where_both_are_there(tmp_path):
    sharded(tmp_path)
    (tmp_path / "pytorch_model.bin.index.json").write_text("{}")
    assert_same(torch_file.read(tmp_path), STATE)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_with_one_file_of_weights_is_that_file(tmp_path, name):
    if name.endswith(".bin"):
        zip_file(tmp_path / name, *state_code(STATE))
    else:
        save_file(STATE, tmp_path / name)
    assert_same(torch_file.read(tmp_path), STATE)


def test_the_only_one_of_one_is_read(tmp_path):
    save_file(STATE, tmp_path / "model-00001-of-00001.safetensors")
    assert_same(torch_file.read(tmp_path / "model-00001-of-00001.safetensors"), STATE)


def test_links_of_a_cache_are_followed(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    index = sharded(tmp_path / "blobs")
    for path in (index, *(index.parent / name for name in NAMES)):
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert_same(torch_file.read(tmp_path / "snapshot"), STATE)


def test_missing_files_and_tensors_are_named(tmp_path):
    index = sharded(tmp_path)
    save_file({"layer2.weight": STATE["layer2.weight"]}, tmp_path / NAMES[1])
    with pytest.raises(ValueError, match=r"names tensors that its files lack: layer3\.weight$"):
        torch_file.read(index)
    (tmp_path / NAMES[1]).unlink()
    with pytest.raises(ValueError, match=rf"needs 2 files: {NAMES[1]} must be beside it"):
        torch_file.read(index)


def test_one_of_several_files_is_told_apart(tmp_path):
    sharded(tmp_path)
    with pytest.raises(ValueError, match=r"is file 2 of 2: give their index"):
        torch_file.read(tmp_path / NAMES[1])


@pytest.mark.parametrize("name", ["../w.safetensors", "/etc/w.safetensors", "a/w.safetensors", "..", "a\\w", "", 3])
def test_an_index_does_not_lead_out_of_its_folder(tmp_path, name):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(ValueError, match="must be a name in the folder of the index"):
        torch_file.read(index)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be the index of several files of weights, in JSON"),
        ("[]", "must have a weight_map"),
        ('{"weight_map": {}}', "must have a weight_map"),
        ("version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer"),
    ],
)
def test_an_index_that_is_none_is_one_sentence(tmp_path, text, message):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(ValueError, match=message):
        torch_file.read(index)


def test_a_folder_without_weights_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"must be a file of weights, or a folder with .*: it is a folder$"):
        torch_file.read(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ValueError, match="it is a SavedModel of TensorFlow"):
        torch_file.read(tmp_path)


def test_a_folder_with_two_indices_asks_for_one(tmp_path):
    for name in ("a.safetensors.index.json", "b.safetensors.index.json"):
        sharded(tmp_path, index=name)
    with pytest.raises(ValueError, match=r"holds several: give one of a\.safetensors\.index\.json, b\."):
        torch_file.read(tmp_path)
