"""Attackers who know better, on small real files."""

import pytest

from experiments import subversion
from scripts import small


@pytest.mark.slow
def test_online_attackers_need_a_surrogate_to_be_seen(data_dir, tmp_path):
    names = ("soft labels, SGD", "best epoch on held-out responses", "online, white box")
    config = small(subversion.Config, data_dir, tmp_path, only=names)
    table = subversion.run(config)
    mad, argmax, sigmoid = "MAD, ε = 0.99", "MAD-argmax, ε = 0.99", "reverse sigmoid, β = 1, γ = 0.2"
    assert table.headings[1:] == ("no defense", mad, argmax, sigmoid)
    assert [row[0] for row in table.rows] == list(names)
    assert [[text == "—" for text in row[1:]] for row in table.rows] == [[False] * 4] * 2 + [[True, False, False, True]]


def test_an_attacker_that_there_is_not_is_refused(data_dir, tmp_path):
    with pytest.raises(ValueError, match="only has 'nobody'"):
        subversion.run(small(subversion.Config, data_dir, tmp_path, only=("nobody",)))


@pytest.mark.slow
def test_every_attacker_meets_every_defense(data_dir, tmp_path):
    table = subversion.run(small(subversion.Config, data_dir, tmp_path, other="stripes"))
    assert len(table.rows) == 14
    assert sum(row.count("—") for row in table.rows) == 4
