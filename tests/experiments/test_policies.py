"""Policies as rows of the worst-case table, on small real files."""

import pytest

from experiments import policies
from scripts import small


def test_every_detector_meets_every_action(data_dir, tmp_path):
    config = small(policies.Config, data_dir, tmp_path, detectors=("dadd", "label_mmd"))
    assert [entry.label for entry in config.entries()] == [
        "dadd → resampled at 1 %", "dadd → blocked at 1 %", "label_mmd → resampled at 1 %",
        "label_mmd → blocked at 1 %",
    ]  # fmt: skip


def test_a_detector_that_is_none_is_one_error(data_dir, tmp_path):
    config = small(policies.Config, data_dir, tmp_path, detectors=("threshold",))
    with pytest.raises(ValueError, match="there is no detector 'threshold': must be of prada, "):
        config.entries()
