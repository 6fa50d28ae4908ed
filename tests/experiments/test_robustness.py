"""Victims and attackers who train on adversarial examples, on small real files."""

import pytest

from experiments import robustness
from scripts import small


@pytest.mark.slow
def test_both_victims_are_stolen_by_both_attackers(data_dir, tmp_path):
    config = small(robustness.Config, data_dir, tmp_path, train_size=200, judged=40, steps=2, judging_steps=3)
    table = robustness.run(config)
    attackers = ("—", "plain", "adversarial training")
    assert [row[:2] for row in table.rows] == [[v, a] for v in ("as usual", "adversarially") for a in attackers]
    for row in table.rows:
        accuracy, attacked = map(float, row[2:])
        assert 0 <= attacked <= 100
        assert 0 <= accuracy <= 100
    again = robustness.run(config)
    assert again.rows == table.rows


def test_more_seeds_than_one_are_refused(data_dir, tmp_path):
    with pytest.raises(ValueError, match=r"seeds is \(0, 1\): must be one seed"):
        robustness.run(small(robustness.Config, data_dir, tmp_path, seeds=(0, 1)))
