"""Data-free stealing on small real files."""

import pytest

from experiments import data_free
from scripts import small


@pytest.mark.slow
def test_every_method_and_defense_is_a_row_and_labels_leave_out_what_needs_probabilities(data_dir, tmp_path):
    options = {"methods": ("dfme", "disguide"), "budget": 400, "defense": ("MAD(epsilon=0.5)",)}
    config = small(data_free.Config, data_dir, tmp_path, **options)
    table = data_free.run(config)
    assert [row[0] for row in table.rows] == ["dfme", "dfme", "disguide", "disguide"]
    assert table.rows[0][1] == table.rows[2][1] == "no defense"
    assert "MAD" in table.rows[1][1]
    assert all(0 <= float(row[2]) <= 100 and len(row[3].split(", ")) == 5 for row in table.rows)
    assert data_free.run(config).rows == table.rows
    config = small(data_free.Config, data_dir, tmp_path, methods=("maze", "disguide"), budget=64, hard_labels=True)
    assert [row[0] for row in data_free.run(config).rows] == ["disguide"]


def test_published_settings_are_chosen_by_name(data_dir, tmp_path):
    config = small(data_free.Config, data_dir, tmp_path)
    assert config.method("dfme").batch_size == 64
    published = small(data_free.Config, data_dir, tmp_path, published=True)
    assert published.method("dfme").batch_size == 256
    assert published.settings("dfme", "", 0) != config.settings("dfme", "", 0)
