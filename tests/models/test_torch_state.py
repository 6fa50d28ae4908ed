"""Weights are found under any key and at any depth; several are named, and prefixes of wrappers are dropped."""

import argparse

import numpy as np
import pytest

from pp_jax.models import torch_file, torch_state
from torch_files import assert_same, call, mapping, named, push, state_code, storage, tensor, zip_file

ONES = np.ones(4, np.float32)
STATE = {"conv1.weight": ONES, "conv1.bias": ONES}


def plain(offset=0, length=4, key="0"):
    """Opcodes of a vector from the one storage of these files."""
    return tensor(storage(key, "float32", 8), offset, (length,), (1,))


def file(tmp_path, code):
    return zip_file(tmp_path / "x.pt", code, {"0": np.arange(8, dtype=np.float32)})


def net(offset=0, **more):
    """Opcodes of a state dict whose tensors begin at an offset."""
    return mapping({"conv1.weight": plain(offset), "conv1.bias": plain(offset, 2), **more})


def pair(*parts):
    """Opcodes of a tuple."""
    return b"(" + b"".join(parts) + b"t"


MOMENTA = mapping({"state": mapping({0: mapping({"exp_avg": plain()})}), "param_groups": push([])})
NUMBER = tensor(storage("0", "float32", 8), 3, (), ())
SHAPES = {
    "a key of ones own": (mapping({"victim_weights": net()}), None),
    "two levels down": (mapping({"epoch": push(3), "net": mapping({"best": net(), "acc": push(0.9)})}), None),
    "a tuple": (pair(net(), push(3)), None),
    "a list": (b"](" + push(3) + net() + b"e", None),
    "beside an optimizer": (mapping({"net": net(), "optimizer": MOMENTA}), None),
    "an optimizer first": (mapping({"optimizer": MOMENTA, "net": net()}), None),
    "beside numbers in tensors": (mapping({"net": net(), "best_acc": NUMBER}), None),
    "beside a vector": (mapping({"net": net(), "history": plain()}), None),
    "numbers among the tensors": (net(acc=push(95.1), epoch=push(3), note=push("x")), None),
    "twice the same": (mapping({"net": net(), "best": net()}), None),
    "in a namespace": (call(named("argparse", "Namespace")) + mapping({"net": net()}) + b"b", None),
    "in a default dict": (
        call(named("collections", "defaultdict"), named("builtins", "dict")) + push("net") + net() + b"s",
        None,
    ),
    "chosen": (mapping({"net": net(4), "ema": net()}), "ema"),
    "chosen by its place": (mapping({"a": mapping({"net": net(4)}), "b": mapping({"net": net()})}), "b.net"),
    "chosen with what is around it": (mapping({"student": net(4), "teacher": mapping({"net": net()})}), "teacher"),
    "chosen at the end of its place": (mapping({"student": net(4), "a": mapping({"ema": net()})}), "ema"),
    "chosen though unlikely": (mapping({"net": net(4), "conv1": mapping({"conv1": net()})}), "conv1.conv1"),
    "chosen from a tuple": (pair(net(4), net()), "1"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_weights_are_found_wherever_they_are(tmp_path, name):
    code, key = SHAPES[name]
    values = np.arange(8, dtype=np.float32)
    expected = {"conv1.weight": values[:4], "conv1.bias": values[:2]}
    assert_same(torch_file.read(file(tmp_path, code), key=key), expected)


def test_several_are_named_and_one_must_be_chosen(tmp_path):
    path = file(tmp_path, mapping({"state_dict": net(4), "state_dict_ema": net(), "epoch": push(3)}))
    message = r"several, state_dict \(2 tensors\), state_dict_ema \(2 tensors\): choose one with --key"
    with pytest.raises(ValueError, match=message):
        torch_file.read(path)
    with pytest.raises(ValueError, match=r"no tensors under 'ema', but state_dict \(2 tensors\), state_dict_ema"):
        torch_file.read(path, key="ema")


def test_a_long_list_of_them_is_cut(tmp_path):
    path = file(tmp_path, mapping({f"fold{i}": net(0, **{f"conv{i}.weight": plain()}) for i in range(12)}))
    with pytest.raises(ValueError, match=r"fold7 \(3 tensors\) and 4 more: choose"):
        torch_file.read(path)


def module(parameters, modules, *, buffers=None, transient=()):
    """Opcodes of a module that was saved whole, as an object of a class of its own."""
    state = {
        "training": push(True),
        "_parameters": mapping(parameters),
        "_buffers": mapping(buffers or {}),
        "_non_persistent_buffers_set": call(named("__builtin__", "set"), push(list(transient))),
        "_modules": mapping(modules),
    }
    return named("mine", "Net") + b")\x81" + mapping(state) + b"b"


def test_a_module_that_was_saved_whole_is_its_state_dict(tmp_path):
    norm = module(
        {"weight": plain(), "bias": push(None)},
        {},
        buffers={"running_mean": plain(1), "scratch": plain(2)},
        transient=["scratch"],
    )
    whole = module(
        {}, {"module": module({}, {"bn1": norm, "relu": push(None), "conv1": module({"weight": plain()}, {})})}
    )
    values = np.arange(8, dtype=np.float32)
    expected = {"bn1.weight": values[:4], "bn1.running_mean": values[1:5], "conv1.weight": values[:4]}
    for code in (whole, mapping({"epoch": push(3), "model": whole})):
        assert_same(torch_file.read(file(tmp_path, code)), expected)


@pytest.mark.parametrize(
    "prefix",
    [
        "module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "module._orig_mod.", "_orig_mod.module.",
        "model.net.", "module.model.module.",
    ],
)  # fmt: skip
def test_what_wrappers_put_before_all_names_is_dropped(prefix):
    assert torch_state.unprefixed({prefix + name: array for name, array in STATE.items()}) == STATE


def test_the_counter_of_averaged_models_is_dropped_with_their_prefix():
    averaged = {"n_averaged": 5, **{f"module.{name}": array for name, array in STATE.items()}}
    assert torch_state.unprefixed(averaged) == STATE
    assert torch_state.unprefixed({f"model.{name}": array for name, array in averaged.items()}) == STATE
    alone = {"n_averaged": 5, **STATE}
    assert torch_state.unprefixed(alone) == alone


def test_prefixes_that_only_some_names_have_are_a_part_of_them():
    some = {"module.conv1.weight": ONES, "fc.bias": ONES}
    assert torch_state.unprefixed(some) == some


def test_a_tree_that_contains_itself_ends():
    tree = {"conv1": argparse.Namespace}
    tree["self"] = tree
    with pytest.raises(torch_state.Refused, match="holds no tensors"):
        torch_state.find(tree, None)


def test_sample_state_is_written_by_hand_as_pytorch_writes_it(tmp_path):
    assert_same(torch_file.read(zip_file(tmp_path / "x.pt", *state_code(STATE))), STATE)
