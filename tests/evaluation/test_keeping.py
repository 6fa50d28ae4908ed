"""Stolen models are kept where that is wanted, and found again by their records."""

import dataclasses

import numpy as np
import pytest

import pp_jax
import smallworld as small
from pp_jax import evaluation, metrics
from pp_jax.evaluation import Attacker, Learner, attackers
from pp_jax.training import Recipe, Rotations

ROTATING = Attacker("rotating", learner=Learner(Rotations(0.3), extra_outputs=4))


def evaluate(folder, **options):
    """Two attackers without a defense, one of which trains outputs beside the classes."""
    common = {"pool": small.pool(), "test": small.test_images(), "budget": 96, "seeds": (0,), "recipe": Recipe(1, 32)}
    tried = (attackers.PLAIN, ROTATING)
    return pp_jax.evaluate(small.victim(), [], attackers=tried, runs_folder=folder, **{**common, **options})


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return evaluate(tmp_path_factory.mktemp("runs"), keep_models=True)


def test_a_kept_model_is_the_one_that_was_judged(report):
    test = small.test_images()
    for record in report.rows[0].records:
        network, params = evaluation.stolen_model(record, small.network())
        probs = metrics.predict(network, params, test.images)
        assert probs.shape == (128, small.CLASSES)
        assert metrics.accuracy(probs, test.labels) == record.result["attacker_accuracy"]


def test_the_same_call_finds_records_and_models_again(report):
    folder = report.rows[0].records[0].path.parent
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert len(before) == 2
    again = evaluate(folder, keep_models=True)
    assert [record.path for record in again.rows[0].records] == [record.path for record in report.rows[0].records]
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")} == before


def test_a_model_that_is_not_there_is_one_line(report, tmp_path):
    record = report.rows[0].records[0]
    plain = dataclasses.replace(record, config={**record.config, "stolen_model": None})
    with pytest.raises(ValueError, match=r"was not kept: evaluate\(\.\.\., keep_models=True\) keeps it"):
        evaluation.stolen_model(plain, small.network())
    with pytest.raises(ValueError, match=r"safetensors is missing: delete .*json as well, and evaluate again"):
        evaluation.stolen_model(dataclasses.replace(record, path=tmp_path / record.path.name), small.network())


def test_a_network_without_named_parameters_is_refused_before_a_query(tmp_path):
    class Bare:
        def init(self, key, image_shape):
            return np.zeros(3)

        def __call__(self, params, image):
            return params

    with pytest.raises(ValueError, match=r"network has parameters of type .*: must be nested dicts to be kept"):
        evaluate(tmp_path, keep_models=True, network=Bare())
