"""MAD's parts on small real files."""

import pytest

from experiments import ablations
from scripts import small


@pytest.mark.slow
def test_a_part_of_mad_is_changed_at_a_time(data_dir, tmp_path):
    names = ("MAD as in the paper", "G = I", "oracle: argmax-preserving")
    table = ablations.run(small(ablations.Config, data_dir, tmp_path, only=names))
    numbers = {row[0].partition(",")[0]: row[1:] for row in table.rows}
    assert set(numbers) == {"no defense", *names}
    assert numbers["no defense"][2:4] == ["100.0", "0.00"]
    assert numbers["oracle: argmax-preserving"][2] == "100.0"
    assert all(float(row[3]) <= 0.99 for row in numbers.values())


@pytest.mark.slow
def test_every_variant_runs_and_the_parts_make_a_difference(data_dir, tmp_path):
    table = ablations.run(small(ablations.Config, data_dir, tmp_path))
    assert len(table.rows) == 18
    assert len({tuple(row[1:]) for row in table.rows}) > 10
