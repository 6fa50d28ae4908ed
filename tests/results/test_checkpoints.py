"""Checkpoints: what was saved comes back bit for bit, or a clear error does."""

import json
import os
import resource
import struct

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from pp_jax import checkpoints
from torch_files import SAVED

DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "bfloat16", "float32"]
TREE = {
    "params": {"Dense_0": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.zeros(3, jnp.bfloat16)}},
    "batch_stats": {},
}


def same(one, other):
    """Equal structure, types and bits."""
    chex.assert_trees_all_equal_shapes_and_dtypes(one, other)
    # By bits: zeros have a sign, and NaN is NaN.
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (4, 3)])
def test_every_type_and_shape_comes_back_bit_for_bit(tmp_path, dtype, shape):
    values = np.random.default_rng(0).normal(size=shape) * 3
    tree = {"a": {"b": jnp.asarray(values).astype(dtype)}, "c": jnp.zeros(1)}
    path = checkpoints.save(tmp_path / "deep" / "c.safetensors", tree, metadata={"epochs": 3, "name": "lenet ε"})
    loaded, metadata = checkpoints.load(path)
    same(loaded, tree)
    assert metadata == {"epochs": 3, "name": "lenet ε"}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded))


def test_special_values_and_transposed_arrays_survive(tmp_path):
    tree = {"x": np.array([[np.nan, -0.0], [np.inf, 1e-45]], np.float32).T, "y": np.float32(2.5)}
    loaded, _ = checkpoints.load(checkpoints.save(tmp_path / "c", tree, metadata={}))
    same(loaded, jax.tree.map(jnp.asarray, tree))


def test_flax_variables_come_back_as_like_them(tmp_path):
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=True)(nn.Dense(3)(x))

    variables = Network().init(jax.random.key(0), jnp.ones((1, 2)))
    path = checkpoints.save(tmp_path / "c", variables, metadata={})
    like = jax.eval_shape(Network().init, jax.random.key(0), jnp.ones((1, 2)))
    same(checkpoints.load(path)[0], variables)
    same(checkpoints.load(path, like=like)[0], variables)
    frozen = nn.FrozenDict(variables)
    same(checkpoints.load(path, like=frozen)[0], frozen)


def test_other_programs_can_read_the_file(tmp_path):
    from safetensors import safe_open

    path = checkpoints.save(tmp_path / "c", {"a": {"b": jnp.arange(3.0)}}, metadata={"k": 1})
    with safe_open(path, framework="numpy") as file:
        assert list(file.keys()) == ["a/b"]
        assert json.loads(file.metadata()["metadata"]) == {"k": 1}
        np.testing.assert_array_equal(file.get_tensor("a/b"), [0, 1, 2])


def test_float64_needs_x64(tmp_path):
    tree = {"x": np.arange(3, dtype=np.float64)}
    path = checkpoints.save(tmp_path / "c", tree, metadata={})
    with pytest.raises(ValueError, match="holds x in float64: needs jax_enable_x64"):
        checkpoints.load(path)
    with jax.enable_x64(True):
        loaded, _ = checkpoints.load(path)
        same(loaded, jax.tree.map(jnp.asarray, tree))


@pytest.mark.parametrize(
    ("params", "word"),
    [
        (jnp.zeros(2), "must be a nested dict"),
        ([jnp.zeros(2)], "must be a nested dict"),
        ({"a": [jnp.zeros(2)]}, "list at a: leaves must be arrays"),
        ({"a": {"b": 1.5}}, "float at a/b: leaves must be arrays"),
        ({"a/b": jnp.zeros(2)}, "key 'a/b'"),
        ({"": jnp.zeros(2)}, "key ''"),
        ({1: jnp.zeros(2)}, "key 1"),
        ({"__metadata__": jnp.zeros(2)}, "key '__metadata__'"),
        ({"a": jax.random.key(0)}, "dtype key<fry> at a: must be one of"),
        ({"a": np.array(["x"])}, "dtype <U1 at a: must be one of"),
    ],
)
def test_what_has_no_place_in_the_format_is_named(tmp_path, params, word):
    with pytest.raises(ValueError, match=word):
        checkpoints.save(tmp_path / "c", params, metadata={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("metadata", [{"x": object()}, {"x": float("nan")}])
def test_metadata_without_json_form_is_named(tmp_path, metadata):
    with pytest.raises(ValueError, match="metadata must have a JSON form"):
        checkpoints.save(tmp_path / "c", TREE, metadata=metadata)


def without(data, field):
    """The same file with one header field taken away."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"].pop(field, None)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


DAMAGE = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "last byte missing": lambda data: data[:-1],
    "a byte too many": lambda data: data + b"\0",
    "a pickle": lambda data: b"\x80\x04K\x01.",
    "absurd header length": lambda data: b"\xff" * 8 + data[8:],
    "a flipped value bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "another name": lambda data: data.replace(b"kernel", b"Kernel"),
    "other metadata": lambda data: data.replace(b"epochs", b"Epochs"),
    "no checksum": lambda data: without(data, "sha256"),
    "another program's": lambda data: without(data, "format"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, damage):
    path = checkpoints.save(tmp_path / "c.safetensors", TREE, metadata={"epochs": 3})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"checkpoint {path} must"):
        checkpoints.load(path)


def test_no_single_flipped_byte_goes_unnoticed(tmp_path):
    path = checkpoints.save(tmp_path / "c", TREE, metadata={"epochs": 3})
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ValueError, match="checkpoint"):
            checkpoints.load(path)


@pytest.mark.parametrize(
    ("like", "word"),
    [
        ({"a": jnp.zeros((2, 3)), "b": jnp.zeros(2)}, "must hold b"),
        ({}, "must not hold a"),
        ({"a": jnp.zeros((3, 2))}, r"must hold a as float32\[3, 2\], not float32\[2, 3\]"),
        ({"a": jnp.zeros((2, 3), jnp.bfloat16)}, "must hold a as bfloat16"),
        ({"a": {}}, "must hold a as empty dict"),
        ({"a": {"b": jnp.zeros(1)}}, "must hold a/b"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path, like, word):
    path = checkpoints.save(tmp_path / "c", {"a": jnp.zeros((2, 3))}, metadata={})
    with pytest.raises(ValueError, match=f"checkpoint {path} {word}"):
        checkpoints.load(path, like=like)


def test_a_write_cut_short_by_the_system_leaves_the_old_checkpoint(tmp_path):
    path = checkpoints.save(tmp_path / "c", TREE, metadata={})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=f"cannot write {path}"):
            checkpoints.save(path, {"a": jnp.zeros(10_000)}, metadata={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = checkpoints.save("~/new/w.safetensors", TREE, metadata={})
    assert path == tmp_path / "new" / "w.safetensors"
    assert os.listdir(tmp_path) == ["new"]
    same(checkpoints.load("~/new/w.safetensors")[0], TREE)


@pytest.mark.parametrize("name", SAVED)
def test_weights_of_pytorch_are_to_be_imported_first(name):
    with pytest.raises(
        ValueError, match=r"weights of PyTorch, which are imported first: python -m pp_jax\.models import"
    ):
        checkpoints.load(SAVED[name])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n" + bytes(8), "it is HDF5"),
        (b"", "it is empty"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, data, message):
    (tmp_path / "w").write_bytes(data)
    with pytest.raises(ValueError, match=f"must be a whole safetensors file: {message}"):
        checkpoints.load(tmp_path / "w")


def test_a_folder_and_safetensors_of_pytorch_are_to_be_imported_first(tmp_path):
    save_file({"conv1.weight": np.ones(3, np.float32)}, tmp_path / "w.safetensors")
    for path in (tmp_path, tmp_path / "w.safetensors"):
        with pytest.raises(ValueError, match=r"imported first: python -m pp_jax\.models import-torch"):
            checkpoints.load(path)


def test_a_misfit_says_what_the_weights_are_of(tmp_path):
    path = checkpoints.save(tmp_path / "c", {"a": jnp.zeros(2)}, metadata={"model": "lenet"})
    for like in ({"b": jnp.zeros(2)}, {}, {"a": jnp.zeros(3)}):
        with pytest.raises(ValueError, match=r"; it holds weights of lenet$"):
            checkpoints.load(path, like=like)
