"""Detectors by account, on small real files: three tables, the records found again."""

import dataclasses

import numpy as np
import pytest

from experiments import detectors
from pp_jax import records
from scripts import small

NAMES = ("label_mmd", "dadd", "coverage")


@pytest.mark.slow
def test_every_detector_meets_every_attack_and_every_kind_of_benign_account(data_dir, tmp_path):
    config = small(
        detectors.Config, data_dir, tmp_path, detectors=NAMES, measured=20, identities=(1, 10), other="stripes"
    )
    attacks, benign, informed = detectors.run(config)
    assert {row[0] for row in attacks.rows} == set(NAMES)
    by_attack = [row[1] for row in attacks.rows if row[0] == "dadd"]
    wanted = ["Knockoff, stripes", "neighbour attack, with 50 of stripes", "random noise", "adaptive Knockoff", "JBDA"]
    assert by_attack == [*wanted, "JB-top3"]
    assert benign.headings[:5] == ("detector", "uniform", "skewed", "bursty", "repeated")
    assert len(benign.headings) == 13
    assert [row[1] for row in informed.rows if row[0] == "coverage"] == [
        "1 identities", "10 identities", "50% own images mixed in", "90% own images mixed in", "least suspicious of 16",
    ]  # fmt: skip
    found = records.load_all(tmp_path / "detectors", kind="detector")
    assert len(found) == 3
    for record in found:
        for cell in record.result["attacks"].values():
            assert 0 <= cell["queries"] <= 100
            assert 0 <= cell["detected"][1] <= cell["detected"][0] <= 1
            assert 0 <= cell["auroc"] <= 1
    again = detectors.run(dataclasses.replace(config, detectors=NAMES[:1]))
    assert again[0].rows == attacks.rows[: len(by_attack)]


def test_a_detector_that_there_is_not_is_refused(data_dir, tmp_path):
    with pytest.raises(ValueError, match="there is no detector 'nobody': prada, warning, dadd"):
        detectors.run(small(detectors.Config, data_dir, tmp_path, detectors=("nobody",)))
    with pytest.raises(ValueError, match="skip has 'JB': must be of adaptive Knockoff, JBDA, JB-top3"):
        detectors.run(small(detectors.Config, data_dir, tmp_path, skip=("JB",)))


def test_the_accuracy_between_two_numbers_of_queries_is_interpolated():
    from experiments.detector_worlds import Accuracy

    accuracy = Accuracy(None, {})
    accuracy._curves["any"] = [1, 10, 100], [10.0, 30.0, 70.0]
    np.testing.assert_allclose([accuracy("any", q) for q in (0, 1, 10, 31.6227766, 100, 500)], [10, 10, 30, 50, 70, 70])
