"""`kill -9` at 20 random moments of a training: the same weights, bit for bit."""

import pytest

from lives import KILLS, TRAINING, kept, survive, trained


@pytest.mark.slow
def test_a_training_killed_20_times_ends_with_the_same_weights(common, whole_training, tmp_path):
    runs, seen = survive("train_victim.py", TRAINING, tmp_path, common, sign=kept, longest=0.3, seed=0)
    assert all(trained(folder) == whole_training for folder in runs)
    # Every kill fell between the first epoch and the record: there was a checkpoint.
    inside = [max(int(seal.parent.name) for seal in seals) for seals in seen if seals]
    print(f"{len(inside)} kills in {len(runs)} trainings, after epochs {inside}")
    assert len(inside) >= KILLS
