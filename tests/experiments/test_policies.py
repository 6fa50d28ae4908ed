"""Policies as rows of the worst-case table."""

import pytest

from experiments import griefing, policies
from pp_jax.defenses import Resampled
from pp_jax.detection import Blocked
from scripts import small


def test_every_detector_meets_every_action():
    rows = policies.entries(("dadd", "label_mmd"), (Resampled, Blocked()), rate=0.05)
    assert [row.label for row in rows] == [
        "dadd → resampled at 5 %", "dadd → blocked at 5 %", "label_mmd → resampled at 5 %",
        "label_mmd → blocked at 5 %",
    ]  # fmt: skip


def test_a_detector_that_is_none_is_one_error():
    with pytest.raises(ValueError, match="there is no detector 'threshold': must be of prada, "):
        policies.entries(("threshold",), (Resampled,))


@pytest.mark.slow
def test_an_attacker_ruins_others_only_where_all_share_one_memory(data_dir, tmp_path):
    config = small(griefing.Config, data_dir, tmp_path, detectors=("label_mmd",), honest=200)
    policy, guarded = griefing.run(config).rows
    assert policy[0].startswith("label_mmd → resampled")
    assert policy[1] == policy[2]
    assert guarded[1] == guarded[2] == guarded[3]  # it keeps every label
