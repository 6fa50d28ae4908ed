"""Stolen two-layer networks and told attributes on small real files."""

import numpy as np
import pytest

from experiments import structural_networks


def test_images_of_half_the_size_are_means_of_four_pixels():
    images = np.arange(40, dtype=np.uint8).reshape(2, 4, 5, 1)
    small = structural_networks.halved(images)
    assert small.shape == (2, 2, 2, 1)
    np.testing.assert_allclose(small[0, 0, 0, 0], (0 + 1 + 5 + 6) / 4 / 255, rtol=1e-6)


@pytest.mark.slow
def test_both_tables_are_made(data_dir, tmp_path):
    config = structural_networks.Config(
        "stripes", hidden=(4,), epochs=1, networks=24, steps=4, queries=5, runs=tmp_path, data_dir=data_dir
    )
    parameters, attributes = structural_networks.run(config).values()
    assert len(parameters.rows) == 2 + len(structural_networks.RANDOM)
    for row in parameters.rows:
        assert float(row[3]) <= 1e-4
        assert row[5] == "100.00"
    assert [row[0] for row in attributes.rows][:2] == ["activation", "hidden layers"]
    assert all(len(row) == 7 for row in attributes.rows)
