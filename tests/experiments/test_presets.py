"""Presets are options; they say what they lack, and other options change them."""

import dataclasses
import sys
from typing import get_args

from experiments import budgets, presets


def test_every_name_is_a_preset_and_becomes_options():
    assert set(get_args(presets.Name)) == set(presets.presets())
    options = presets.options("cifar10")
    assert (options.victim.model, options.attack.budget) == ("vgg16_bn", 50_000)


def test_presets_say_what_is_to_be_prepared(tmp_path):
    rows = {row[0]: row for row in presets.Listing(tmp_path).rows()}
    assert rows["cub200"][4] == "no"
    assert "python -m pp_jax.data prepare caltech_birds2011 --from FOLDER --size 224" in rows["cub200"][5]


def test_the_command_line_starts_at_a_preset_and_changes_it(monkeypatch):
    line = ["budgets", "--preset", "fashion_mnist_notmnist", "--attack.epochs", "2", "--seeds", "3"]
    monkeypatch.setattr(sys, "argv", line)
    config = presets.cli(budgets.Config, None)
    known = presets.options("fashion_mnist_notmnist")
    assert config.victim == known.victim
    assert config.attack == dataclasses.replace(known.attack, epochs=2)
    assert config.seeds == (3,)
