"""A pickle that asks for more than it is worth is refused before it is carried out; all others pass."""

import collections
import io
import pickle
import time
import tracemalloc

import pytest

from pp_jax.models import torch_opcodes
from torch_files import SAVED, call, named, pickled, push

DOUBLED = b")" + b"2\x86" * 40

GREEDY = {
    "a memo of 2³⁰ places": b"Nr\xff\xff\xff\x3f",
    "the same in digits": b"Np1073741823\n",
    "a terabyte of bytes": b"\x8e" + (2**40).to_bytes(8, "little"),
    "a terabyte of changeable bytes": b"\x96" + (2**40).to_bytes(8, "little"),
    "a terabyte of text": b"\x8d" + (2**40).to_bytes(8, "little"),
    "a frame of four exabytes": b"\x95" + (2**62).to_bytes(8, "little") + b"N",
    "a key of 2⁴⁰ parts": b"}" + DOUBLED + b"Ns",
    "a set with an element of 2⁴⁰ parts": b"(" + DOUBLED + b"\x91",
    "a call with an argument of 2⁴⁰ parts": call(named("collections", "OrderedDict"), DOUBLED),
    "the same of the memo": b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(20)),
}


@pytest.mark.parametrize("code", GREEDY.values(), ids=GREEDY)
def test_what_asks_for_too_much_is_refused_at_once(code):
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(ValueError):
            torch_opcodes.check(io.BytesIO(pickled(code)))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 1


@pytest.mark.parametrize("protocol", range(6))
def test_other_pickles_pass_and_the_file_is_left_at_their_beginning(protocol):
    shared = (2, 3)
    value = {"a": [shared, shared, 1.5, None, True, b"x" * 300, "é", 2**70], "b": collections.OrderedDict(c={1, 2})}
    file = io.BytesIO(b"before" + pickle.dumps([value, *range(5000)], protocol) + b"after")
    file.seek(6)
    torch_opcodes.check(file)
    assert pickle.load(file)[0] == value


def test_files_of_pytorch_pass():
    with SAVED["saved_old.pt"].open("rb") as file:
        for _ in range(5):
            torch_opcodes.check(file)
            pickle.Unpickler.load(_Skipping(file))


class _Skipping(pickle.Unpickler):
    """Goes past a pickle."""

    def find_class(self, module, name):
        return lambda *_: {} if name == "OrderedDict" else None

    def persistent_load(self, pid):
        return None


def test_an_object_of_old_style_is_counted():
    torch_opcodes.check(io.BytesIO(pickled(b"(" + named("some", "Class") + push(1) + b"o")))
