"""`kill -9` at random moments of a training: the same weights, bit for bit."""

import pytest

from experiments import victims
from experiments.victims import VictimOptions
from lives import KILLS, OWN, TRAINING, kept, killed, survive, trained
from scripts import start


@pytest.mark.slow
def test_a_training_killed_again_and_again_ends_with_the_same_weights(common, whole_training, tmp_path):
    runs, seen = survive("train_victim.py", TRAINING, tmp_path, common, sign=kept, longest=0.3, seed=0)
    assert all(trained(folder) == whole_training for folder in runs)
    # Every kill fell between the first epoch and the record: there was a checkpoint.
    inside = [max(int(seal.parent.name) for seal in seals) for seals in seen if seals]
    print(f"{len(inside)} kills in {len(runs)} trainings, after epochs {inside}")
    assert len(inside) >= KILLS


@pytest.mark.slow
def test_a_training_killed_once_ends_with_the_same_weights(data_dir, tmp_path):
    options = VictimOptions("stripes", "mlp", epochs=15, batch_size=32, learning_rate=0.05)
    victims.victim(options, tmp_path / "whole", data_dir)
    command = (*OWN, "--model", "mlp", "--epochs", "15", "--runs", tmp_path / "killed")
    assert killed(start("train_victim.py", *command, data_dir=data_dir), lambda: kept(tmp_path / "killed"), 0)
    assert kept(tmp_path / "killed")
    victims.victim(options, tmp_path / "killed", data_dir)
    assert trained(tmp_path / "killed") == trained(tmp_path / "whole")
