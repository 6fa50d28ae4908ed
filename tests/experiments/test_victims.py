"""Victims by options: what names them, what contradicts itself, and weights from a file."""

import dataclasses

import pytest

from experiments import victims
from experiments.victims import VictimOptions
from pp_jax import checkpoints
from scripts import SMALL_VICTIM


def test_options_that_are_not_used_do_not_name_a_victim():
    plain = VictimOptions().settings()
    assert plain == {
        "dataset": "mnist", "model": "lenet", "epochs": 4, "batch_size": 64, "learning_rate": 0.1, "momentum": 0.5,
        "decay_every": 3, "seed": 0,
    }  # fmt: skip
    exposed = VictimOptions(outliers="omniglot_28").settings()
    assert exposed == {**plain, "outliers": "omniglot_28", "outlier_weight": 0.5}


@pytest.mark.parametrize("other", [{"noise_multiplier": 1.0}, {"weights": "victim.safetensors"}])
def test_an_exposed_victim_is_trained_and_not_privately(other):
    with pytest.raises(ValueError, match="must not be given where outliers are"):
        VictimOptions(outliers="omniglot_28", **other).recipe()


def test_outliers_are_not_what_the_victim_is_trained_on():
    with pytest.raises(ValueError, match="outliers is mnist: must not be what the victim is trained on"):
        VictimOptions(outliers="mnist").recipe()


def test_weights_may_come_from_a_file_made_for_the_same_pixels(data_dir, tmp_path):
    trained = victims.victim(SMALL_VICTIM, tmp_path, data_dir)
    same = checkpoints.save(tmp_path / "same.safetensors", trained.params, metadata={"mean": [0.0], "std": [1.0]})
    given = dataclasses.replace(SMALL_VICTIM, weights=same)
    victims.victim(given, tmp_path / "again", data_dir)
    assert victims.accuracy(given, tmp_path / "again") == victims.accuracy(SMALL_VICTIM, tmp_path)
    other = checkpoints.save(tmp_path / "other.safetensors", trained.params, metadata={"mean": [0.5], "std": [0.5]})
    with pytest.raises(ValueError, match=r"for images with mean \[0.5\]: must be \(0.0,\)"):
        victims.victim(dataclasses.replace(SMALL_VICTIM, weights=other), tmp_path, data_dir)
