"""A record that was changed is found, reported and redone."""

import json
import pickle
import random
import warnings

import numpy as np
import pytest

from pp_jax import records

CELL = {"kind": "tradeoff", "result": {"attacker_accuracy": 0.5}, "timings": {"total_s": 1.5}}


def edited(data, **changes):
    content = json.loads(data) | changes
    return json.dumps({name: value for name, value in content.items() if value is not ...}).encode()


def with_bit_flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def somewhere(seed, low, high):
    return int(np.random.default_rng(seed).integers(low, high))


DAMAGE = {
    "empty": lambda data: b"",
    "zeros, as after a power cut": lambda data: bytes(len(data)),
    "binary": lambda data: np.random.default_rng(0).bytes(1000),
    "not text": lambda data: b"\xff\xfe" + data,
    "another text behind it": lambda data: data + b"{}",
    "nested beyond all bounds": lambda data: b"[" * 100_000,
    "nested deeply": lambda data: edited(data, result=json.loads('{"x":' * 900 + "0" + "}" * 900)),
    "a list": lambda data: b"[]",
    "an empty object": lambda data: b"{}",
    "NaN": lambda data: data.replace(b"0.5", b"NaN"),
    "a number beyond floats": lambda data: data.replace(b"0.5", b"5e999"),
    "a number of many digits": lambda data: data.replace(b"0.5", b"5" * 10_000),
    "no schema": lambda data: edited(data, schema=...),
    "another schema": lambda data: edited(data, schema=99),
    "no kind": lambda data: edited(data, kind=...),
    "a kind that is a number": lambda data: edited(data, kind=1),
    "no result": lambda data: edited(data, result=...),
    "timings of a wrong type": lambda data: edited(data, timings=[1]),
    "another configuration": lambda data: edited(data, config={"seed": 1}),
    "another result": lambda data: edited(data, result={"attacker_accuracy": 0.4}),
    "another kind": lambda data: edited(data, kind="speed"),
    "no checksum worth the name": lambda data: edited(data, sha256=None),
    "a checksum by another name": lambda data: edited(data, sha256=..., sha257=json.loads(data)["sha256"]),
    "no checksum, NaN": lambda data: edited(data, sha256=...).replace(b"0.5", b"NaN"),
    "no checksum, a number beyond floats": lambda data: edited(data, sha256=...).replace(b"0.5", b"5e999"),
    "a field too many": lambda data: edited(data, sha512=""),
    "a bit of the configuration": lambda data: with_bit_flipped(data, 8 * data.index(b"seed") + 1),
    **{
        f"truncated {seed}": lambda data, seed=seed: data[: somewhere(seed, 1, len(data) - 2)] for seed in range(10)
    },
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_record_is_refused_and_redone(tmp_path, damage):
    whole = records.write(tmp_path, **CELL, config={"seed": 8})
    path = records.write(tmp_path, **CELL, config={"seed": 0})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(records.Damaged, match=f"{path.name} is damaged: .*run its cell again") as caught:
        records.load(path)
    assert caught.value.path == path
    assert caught.value.reason in str(caught.value)
    with pytest.warns(UserWarning, match=path.name):
        assert records.find(tmp_path, {"seed": 0}) is None
    with pytest.warns(UserWarning, match=path.name):
        assert [record.path for record in records.load_all(tmp_path)] == [whole]
    with pytest.warns(UserWarning, match=path.name) as heard:
        redone = records.once(tmp_path, {"seed": 0}, lambda: records.write(tmp_path, **CELL, config={"seed": 0}))
    assert len(heard) == 1
    assert redone.result == CELL["result"]


def flip_bits(folder, *, positions):
    """Flip each bit at some bytes of a record (all where None), one at a time: how many are detected, how many not."""
    result = {"x": 0.1234567890123456789, "n": 7, "ok": True, "text": "é", "list": [1e-9, None], "deep": {"y": -2.5}}
    path = records.write(folder, kind="k", config={"seed": 0}, result=result, timings={"total_s": 1.5})
    data, original = path.read_bytes(), records.load(path)
    places = range(len(data)) if positions is None else random.Random(0).sample(range(len(data)), positions)
    detected = harmless = 0
    for bit in (8 * place + offset for place in places for offset in range(8)):
        path.write_bytes(with_bit_flipped(data, bit))
        try:
            # What is parsed is compared as text, so that neither 1 passes for True nor 1.0 for 1.
            assert repr(records.load(path)) == repr(original), (bit, data[max(0, bit // 8 - 20) : bit // 8 + 20])
            harmless += 1
        except records.Damaged:
            detected += 1
    return detected, harmless


def test_every_flipped_bit_of_200_bytes_of_a_record_is_detected_or_harmless(tmp_path):
    detected, harmless = flip_bits(tmp_path, positions=200)
    assert detected + harmless == 1600
    assert detected > 1500


@pytest.mark.slow
def test_every_flipped_bit_of_a_whole_record_is_detected_or_harmless(tmp_path):
    detected, harmless = flip_bits(tmp_path, positions=None)
    assert detected > 0.99 * (detected + harmless)
    assert harmless > 0  # a 1e-09 that became a 1E-09, for instance


def test_records_from_before_the_checksum_are_read(tmp_path):
    path = records.write(tmp_path, **CELL, config={"seed": 0})
    original = records.load(path)
    path.write_bytes(edited(path.read_bytes(), sha256=...))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert records.find(tmp_path, {"seed": 0}) == original


def test_the_error_of_a_damaged_record_reaches_other_processes(tmp_path):
    error = records.Damaged(tmp_path / "a.json", "it is not JSON")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.path, again.reason) == (str(error), error.path, error.reason)


def test_the_checksum_does_not_depend_on_layout_or_order(tmp_path):
    path = records.write(tmp_path, **CELL, config={"seed": 0, "name": "a"})
    original = records.load(path)
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps(dict(reversed(content.items())), indent=4))
    assert records.load(path) == original
