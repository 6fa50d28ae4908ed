"""Error amplification on small real files."""

import pytest

from experiments import amplification
from pp_jax.results import tables
from scripts import small


@pytest.mark.slow
def test_the_factor_is_the_ratio_of_errors_with_students_interval(data_dir, tmp_path):
    assert amplification.factors([15, 50], [99, 100]) == pytest.approx([85, 5000])
    mean, half = tables.interval([1.0, 2.0, 3.0])
    assert (mean, half) == pytest.approx((2, 4.302653 / 3**0.5))  # t(.975; 2) = 4.302653
    config = small(amplification.Config, data_dir, tmp_path, defense=("Top1",))
    bare, top = amplification.run(config).rows
    assert (bare[0], bare[3]) == ("no defense", "1")
    assert "±" in top[3]


def test_two_seeds_are_too_few(data_dir, tmp_path):
    with pytest.raises(ValueError, match="must be at least three"):
        amplification.run(small(amplification.Config, data_dir, tmp_path, seeds=(0, 1)))
