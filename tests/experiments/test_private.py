"""DP-SGD victims on small real files."""

import pytest

from experiments import private
from scripts import small


@pytest.mark.slow
def test_private_victims_have_their_epsilon_beside_them(data_dir, tmp_path):
    config = small(private.Config, data_dir, tmp_path, noise=(1.0, 4.0), train_size=200, batch_size=50)
    rows = private.run(config).rows
    assert [row[0] for row in rows] == ["no", "σ = 1", "σ = 4"]
    assert rows[0][1] == "∞"
    assert float(rows[1][1]) > float(rows[2][1]) > 0


def test_only_noise_tells_the_victims_apart(data_dir, tmp_path):
    config = small(private.Config, data_dir, tmp_path)
    plain, noisy = config.victim_with(None).settings(), config.victim_with(2.0).settings()
    assert noisy == {**plain, "noise_multiplier": 2.0, "clip": 1.0}
    assert (plain["train_size"], plain["batch_size"]) == (20_000, 256)
