"""Nothing that a pickle names is imported or called, however it asks; what stands beside the weights is not needed."""

import argparse
import collections
import datetime
import enum
import functools
import pathlib
import sys

import numpy as np
import pytest

from pp_jax.models import torch_file
from torch_files import (
    SAVED,
    WRITERS,
    assert_same,
    call,
    mapping,
    named,
    pickled,
    push,
    saved_state,
    state_code,
    storage,
    tensor,
    zip_file,
)

ONES = np.ones(4, np.float32)
REBUILD = named("torch._utils", "_rebuild_tensor_v2")


class Colour(enum.Enum):
    """For a file that names a class of this module."""

    RED = 1


BESIDE = {
    "numpy scalar": np.float64(0.99),
    "numpy array": np.arange(3),
    "objects in an array": np.array([None, "a"], dtype=object),
    "random state": np.random.RandomState(0).get_state(),
    "namespace": argparse.Namespace(lr=0.1, sizes=(1, 2)),
    "path": pathlib.PurePosixPath("runs/x"),
    "date": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    "set": {1, 2},
    "frozen set": frozenset({"a"}),
    "complex": 1 + 2j,
    "bytes": b"\xff\x00",
    "bytearray": bytearray(b"a"),
    "default": collections.defaultdict(list, {"a": [1]}),
    "counter": collections.Counter("aab"),
    "deque": collections.deque([1, 2], 3),
    "enum": Colour.RED,
    "class": Colour,
    "function": pathlib.Path.cwd,
    "partial": functools.partial(print, 1, end=""),
    "range": range(3),
    "slice": slice(1, 2),
    "none": None,
    "names": {1: "cat", (1, 2): "dog", b"x": 3},
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", BESIDE)
def test_what_stands_beside_the_weights_need_not_be_understood(tmp_path, writer, name):
    code, storages = state_code({"conv1.weight": ONES})
    path = writer(tmp_path / "x.pt", mapping({"beside": push(BESIDE[name]), "net": code, "epoch": push(3)}), storages)
    assert_same(torch_file.read(path), {"conv1.weight": ONES})


@pytest.mark.parametrize("writer", WRITERS)
def test_objects_of_pytorch_beside_the_weights_need_not_be_understood(tmp_path, writer):
    code, storages = state_code({"conv1.weight": ONES})
    beside = {
        "device": call(named("torch", "device"), push("cuda"), push(0)),
        "size": call(named("torch", "Size"), push([3, 32, 32])),
        "dtype": named("torch", "float32"),
        "arch": b"(" + push("module") + named("zoo", "Net") + push("net.py") + push("class Net: ...") + b"tQ",
    }
    path = writer(tmp_path / "x.pt", mapping({**beside, "state_dict": code}), storages)
    assert_same(torch_file.read(path), {"conv1.weight": ONES})


def test_a_tensor_with_attributes_is_a_tensor(tmp_path):
    _, storages = state_code({"x": ONES})
    stored = storage("0", "float32", 4)
    arguments = b"(" + stored + push(0) + push((4,)) + push((1,)) + push(False) + push({}) + b"t"
    with_class = call(named("torch._tensor", "_rebuild_from_type_v2"), REBUILD, named("a", "T"), arguments, push({}))
    with_state = call(
        named("torch._utils", "_rebuild_parameter_with_state"),
        *(tensor(stored, 0, (4,), (1,)), push(True), push({}), push({"tag": 1})),
    )
    path = zip_file(tmp_path / "x.pt", mapping({"a.x": with_class, "a.y": with_state}), storages)
    assert_same(torch_file.read(path), {"a.x": ONES, "a.y": ONES})


@pytest.mark.parametrize("maker", [("dill._dill", "_create_type"), ("cloudpickle.cloudpickle", "_make_skeleton_class")])
def test_objects_of_classes_that_the_file_defines_need_not_be_understood(tmp_path, maker):
    code, storages = state_code({"conv1.weight": ONES})
    local = call(named(*maker), push("Local"), push(())) + push((1,)) + b"\x81" + push({"a": 1}) + b"b"
    path = zip_file(tmp_path / "x.pt", mapping({"beside": local, "net": code}), storages)
    assert_same(torch_file.read(path), {"conv1.weight": ONES})


def test_a_view_that_negates_is_not_read_as_it_lies(tmp_path):
    arguments = (storage("0", "float32", 4), push(0), push((4,)), push((1,)), push(False), push({}))
    path = tmp_path / "x.pt"
    assert_same(
        torch_file.read(zip_file(path, mapping({"a.x": call(REBUILD, *arguments, push({"neg": False}))}), {"0": ONES})),
        {"a.x": ONES},
    )
    zip_file(path, mapping({"a.x": call(REBUILD, *arguments, push({"neg": True}))}), {"0": ONES})
    with pytest.raises(ValueError, match=r"holds a negated or conjugated view under 'a\.x'"):
        torch_file.read(path)


ATTACKS = {
    "os.system": lambda mark: call(named("os", "system"), push(f"touch {mark}")),
    "posix.system": lambda mark: call(named("posix", "system"), push(f"touch {mark}")),
    "builtins.eval": lambda mark: call(named("builtins", "eval"), push(f"open({mark!r}, 'w')")),
    "builtins.exec": lambda mark: call(named("builtins", "exec"), push(f"open({mark!r}, 'w')")),
    "__builtin__.open": lambda mark: call(named("__builtin__", "open"), push(mark), push("w")),
    "pathlib.Path.touch": lambda mark: (
        b"(" + push("pathlib") + push("Path.touch") + b"\x93" + push(mark) + b"o"
    ),
    "a call of what a call returned": lambda mark: call(
        call(named("builtins", "getattr"), named("os", "system"), push("__call__")), push(f"touch {mark}")
    ),
    "attributes of a function of the reader": lambda mark: (
        b"(" + push("torch._utils") + push("_rebuild_tensor_v2.__globals__") + b"\x93o"
    ),
    "the old opcode INST": lambda mark: b"(" + push(f"touch {mark}") + b"ios\nsystem\n",
    "a new object": lambda mark: named("subprocess", "Popen") + push((["touch", mark],)) + b"\x81",
    "a new object with names": lambda mark: (
        named("subprocess", "Popen") + push((["touch", mark],)) + push({"shell": False}) + b"\x92"
    ),
    "a state to set": lambda mark: call(named("torch.nn.modules.linear", "Linear")) + push({"bias": mark}) + b"b",
    "a tensor of a class of its own": lambda mark: call(
        named("torch._tensor", "_rebuild_from_type_v2"), named("os", "system"), named("a", "Class"),
        push((f"touch {mark}",)), push({}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", ATTACKS)
def test_whatever_else_a_file_asks_for_is_not_run(tmp_path, monkeypatch, writer, name):
    mark = tmp_path / "mark"
    monkeypatch.setattr("builtins.__import__", refuse_imports(__import__))
    code, storages = state_code({"conv1.weight": ONES})
    attack = ATTACKS[name](str(mark))
    beside = writer(tmp_path / "beside.pt", mapping({"state_dict": code, "x": attack}), storages)
    assert list(torch_file.read(beside)) == ["conv1.weight"]
    alone = writer(tmp_path / "alone.pt", mapping({"x": attack}))
    with pytest.raises(ValueError, match=r"alone\.pt"):
        torch_file.read(alone)
    assert not mark.exists()


def refuse_imports(real):
    """`__import__` that fails where a module is asked for which this process has not loaded."""

    def refuse(name, *more):
        assert name in sys.modules or name.split(".")[0] in ("safetensors", "pp_jax"), f"imports {name}"
        return real(name, *more)

    return refuse


@pytest.mark.parametrize("place", range(5))
def test_no_pickle_of_an_old_file_is_run(tmp_path, place):
    mark = tmp_path / "mark"
    evil = call(named("os", "system"), push(f"touch {mark}"))
    whole = tensor(storage("0", "float32", 4), 0, (4,), (1,))
    parts = [push(0x1950A86A20F9469CFC6C), push(1001), push({"little_endian": True}), mapping({"x": whole}), push([])]
    parts[place] = evil
    (tmp_path / "x.pt").write_bytes(b"".join(map(pickled, parts)))
    with pytest.raises(ValueError, match=r"x\.pt must"):
        torch_file.read(tmp_path / "x.pt")
    assert not mark.exists()


def test_no_file_alters_how_the_next_is_read(tmp_path):
    attributes = push(({}, {"__defaults__": (1,), "__kwdefaults__": {}, "__name__": "altered"}))
    for function in (REBUILD, named("torch._utils", "_rebuild_tensor"), named("collections", "OrderedDict")):
        # The opcode BUILD sets attributes, here of the function itself.
        with pytest.raises(ValueError):
            torch_file.read(zip_file(tmp_path / "evil.pt", mapping({"x": function + attributes + b"b"})))
    for name in SAVED:
        assert_same(torch_file.read(SAVED[name]), saved_state())
