"""Griefing QUEEN on small real files."""

import pytest

from experiments import queen_griefing
from scripts import small


@pytest.mark.slow
def test_one_clients_queries_change_the_others_responses(data_dir, tmp_path):
    options = {"radius": (0.02, 0.8), "queries": (0, 300), "others": 60}
    table = queen_griefing.run(small(queen_griefing.Config, data_dir, tmp_path, **options))
    assert [row[:2] for row in table.rows] == [["0.02", "0"], ["0.02", "300"], ["0.8", "0"], ["0.8", "300"]]
    assert table.rows[1][2] == "0"  # as published: too small a radius for so few queries
    assert all(0 <= float(row[4]) <= 100 for row in table.rows)


def test_a_client_cannot_query_more_than_there_is(data_dir, tmp_path):
    with pytest.raises(ValueError, match="must be at most 400, the client's images"):
        queen_griefing.run(small(queen_griefing.Config, data_dir, tmp_path, queries=(9999,)))
