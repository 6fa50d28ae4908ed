"""State dicts are read as they were saved, in every format; nothing that a file names is run, and damage is told."""

import contextlib
import hashlib
import json
import math
import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from pp_jax.models import torch_file
from torch_files import (
    SAVED,
    WRITERS,
    assert_same,
    call,
    mapping,
    named,
    old_file,
    push,
    saved_state,
    state_code,
    storage,
    tensor,
    zip_file,
)

ONES = np.ones(4, np.float32)
REBUILD = named("torch._utils", "_rebuild_tensor_v2")


@pytest.mark.parametrize("name", SAVED)
def test_files_of_pytorch_hold_what_was_saved(name):
    assert_same(torch_file.read(SAVED[name]), saved_state())


def test_safetensors_hold_what_was_saved(tmp_path):
    state = {name: np.ascontiguousarray(array) for name, array in saved_state().items()}
    save_file(state, tmp_path / "state.safetensors")
    assert_same(dict(sorted(torch_file.read(tmp_path / "state.safetensors").items())), dict(sorted(state.items())))


@given(data=st.data())
def test_any_strides_and_offset_select_what_they_say(tmp_path_factory, data):
    path, writer = tmp_path_factory.mktemp("any") / "x.pt", data.draw(st.sampled_from(WRITERS))
    shape = tuple(data.draw(st.lists(st.integers(0, 3), max_size=4)))
    strides = tuple(data.draw(st.integers(0, 7)) for _ in shape)
    offset, spare = data.draw(st.integers(0, 5)), data.draw(st.integers(-1, 2))
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if math.prod(shape) else -1
    values = np.arange(max(last + 1 + spare, 0), dtype=np.float32)
    writer(path, mapping({"x": tensor(storage("0", "float32", len(values)), offset, shape, strides)}), {"0": values})
    if last >= len(values):
        with pytest.raises(ValueError, match="beyond its storage"):
            torch_file.read(path)
        return
    expected = [values[offset + int(np.dot(index, strides))] for index in np.ndindex(shape)]
    np.testing.assert_array_equal(torch_file.read(path)["x"].ravel(), expected)


def test_views_of_storages_in_the_oldest_files_are_found(tmp_path):
    view = storage("root", "float32", 10, view=("view", 4, 3))
    rebuild = named("torch._utils", "_rebuild_tensor")
    code = mapping({"x": call(rebuild, view, push(1), push((2,)), push((1,)))})
    state = torch_file.read(old_file(tmp_path / "x.pth", code, {"root": np.arange(10, dtype=np.float32)}))
    np.testing.assert_array_equal(state["x"], [5, 6])


def test_parameters_of_the_oldest_files_are_tensors(tmp_path):
    values = np.arange(3, dtype=np.float32)
    whole = tensor(storage("0", "float32", 3, view=None), 0, (3,), (1,))
    parameter = call(named("torch.nn.parameter", "Parameter"), whole) + push((True, False, None)) + b"b"
    state = torch_file.read(old_file(tmp_path / "x.pth", mapping({"x": parameter}), {"0": values}))
    np.testing.assert_array_equal(state["x"], values)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("outer", ["state_dict", "model_state_dict", "model", "net", "ema"])
def test_nested_state_dicts_and_the_prefix_of_data_parallel_are_understood(tmp_path, writer, outer):
    code, storages = state_code({"module.a": np.ones(2, np.float32), "module.b": np.zeros(3, np.float32)})
    path = writer(tmp_path / "x.pt", mapping({"epoch": push(3), outer: code}), storages)
    assert list(torch_file.read(path)) == ["a", "b"]


def test_a_prefix_that_only_some_names_have_is_a_part_of_them(tmp_path):
    code, storages = state_code({"module.a": np.ones(2, np.float32), "b": np.zeros(3, np.float32)})
    assert list(torch_file.read(zip_file(tmp_path / "x.pt", code, storages))) == ["module.a", "b"]


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_one_error_that_names_it(tmp_path, name, keep):
    data = (SAVED[name]).read_bytes()
    (tmp_path / name).write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match=f"{name} must be a whole file"):
        torch_file.read(tmp_path / name)


@given(seed=st.integers(0, 2**32), name=st.sampled_from(list(SAVED)))
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, seed, name):
    rng = np.random.default_rng(seed)
    data = bytearray((SAVED[name]).read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(data)
    with contextlib.suppress(ValueError):
        torch_file.read(path)


WHOLE = tensor(storage("0", "float32", 4), 0, (4,), (1,))
BYTES = b"(" + push("storage") + named("torch.storage", "UntypedStorage") + push("0") + push("cpu") + push(16) + b"tQ"
FLOAT8 = call(
    named("torch._utils", "_rebuild_tensor_v3"),
    *(BYTES, push(0), push((4,)), push((1,)), push(False), push({}), named("torch", "float8_e4m3fn")),
)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("code", "message"),
    [
        (push({"x": 1.0}), "holds no tensors with names, but float under 'x'"),
        (push({}), "holds nothing"),
        (push([1, 2]), "holds no tensors with names, but list"),
        (b"}" + push(3) + WHOLE + b"s", "holds no tensors with names, but Tensor under 3"),
        (b"]" + WHOLE + b"a", "holds a list of tensors without names"),
        (WHOLE, "holds one tensor without a name"),
        (call(named("a", "Class")), r"holds an object of a\.Class without tensors; it was not run"),
        (mapping({"x": call(named("a", "Class"))}), r"an object of a\.Class, which was not run, under 'x'"),
        (mapping({"state": push({}), "param_groups": push([])}), "holds the state of an optimizer and no weights"),
        (mapping({"x": tensor(storage("0", "float32", 4), -1, (2,), (1,))}), "no proper shape"),
        (mapping({"x": tensor(storage("0", "float32", 4), 0, (2, 2), (1,))}), "no proper shape"),
        (mapping({"x": tensor(storage("0", "float32", 4), 0, (2,), (-1,))}), "no proper shape"),
        (mapping({"x": tensor(storage("0", "float32", 4), 0, (2.0,), (1,))}), "no proper shape"),
        (mapping({"x": tensor(storage("0", "float32", 4), 0, (2**62, 2**62), (0, 0))}), "must be a whole file"),
        (mapping({"x": tensor(storage("0", "ComplexFloat", 2), 0, (2,), (1,))}), "holds complex64 under 'x'"),
        (mapping({"x": tensor(storage("0", "QInt8", 4), 0, (4,), (1,))}), "holds qint8 under 'x'"),
        (mapping({"x": call(named("torch._utils", "_rebuild_qtensor"), push(1))}), "holds a quantized tensor under"),
        (mapping({"x": call(named("torch._utils", "_rebuild_sparse_tensor"), push(1))}), "holds a sparse tensor under"),
        (mapping({"x": FLOAT8}), r"holds float8_e4m3fn under 'x', which is not supported: convert it to float16 or"),
        (mapping({"x": tensor(push("0"), 0, (4,), (1,))}), "must be a whole file"),
    ],
)
def test_what_is_no_state_dict_is_one_sentence(tmp_path, writer, code, message):
    with pytest.raises(ValueError, match=message):
        torch_file.read(writer(tmp_path / "x.pt", code, {"0": ONES}))


def test_an_encrypted_archive_is_refused(tmp_path):
    data = bytearray(SAVED["saved_zip.pt"].read_bytes())
    # The flag of the first entry in the archive's directory.
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(ValueError, match=r"must be a whole file.*encrypted"):
        torch_file.read(tmp_path / "x.pt")


def test_other_formats_and_byte_orders_are_refused(tmp_path):
    code, storages = state_code({"x": ONES})
    path = tmp_path / "x.pt"
    for data in (b"", b"text", pickle.dumps({"x": 1}), b"\x93NUMPY", b"\x10\0\0\0\0\0\0\0{not safetensors"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"must be a whole file of safetensors or torch\.save"):
            torch_file.read(path)
    with pytest.raises(ValueError, match="big-endian"):
        torch_file.read(zip_file(path, code, storages, byteorder=b"big"))
    with pytest.raises(ValueError, match="big-endian"):
        torch_file.read(old_file(path, code, storages, little=False))
    with pytest.raises(FileNotFoundError):
        torch_file.read(tmp_path / "absent.pt")


def test_safetensors_in_float8_are_named(tmp_path):
    save_file({"fc.weight": ONES.astype(ml_dtypes.float8_e4m3fn)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x\.safetensors holds float8_e4m3fn under 'fc\.weight'.* float32"):
        torch_file.read(tmp_path / "x.safetensors")


def test_safetensors_have_no_keys(tmp_path):
    save_file({"fc.weight": ONES}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="safetensors have no keys such as 'net'"):
        torch_file.read(tmp_path / "x.safetensors", key="net")


def test_what_is_no_file_of_weights_is_named(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n")
    with pytest.raises(ValueError, match=r"safetensors or torch\.save: it is a Git LFS pointer.*git lfs pull"):
        torch_file.read(path)


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    zip_file(tmp_path / "x.pt", *state_code({"conv1.weight": ONES}))
    assert list(torch_file.read("~/x.pt")) == ["conv1.weight"]


def test_the_digest_of_several_files_is_that_of_all(tmp_path):
    parts = [tmp_path / f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for i, part in enumerate(parts):
        save_file({f"layer{i}.weight": ONES}, part)
    index = {"weight_map": {f"layer{i}.weight": part.name for i, part in enumerate(parts)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert list(torch_file.read(tmp_path)) == ["layer0.weight", "layer1.weight"]
    expected = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    assert torch_file.sha256(tmp_path) == expected
