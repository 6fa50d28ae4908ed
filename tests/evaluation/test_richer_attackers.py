"""Attackers with weights, reshaped pools, labelled images of their own, and a head that adapts."""

import dataclasses

import jax
import numpy as np
import pytest

import pp_jax
import smallworld as small
from pp_jax.data.reshaping import Centred
from pp_jax.defenses import Top1
from pp_jax.evaluation import OWN_IMAGES, STANDARD, Attacker, Entry, Images, Learner, Weights, attackers, owning, runs
from pp_jax.training import Rotations, Tempered
from pp_jax.types import TransferSet

KEY = jax.random.key(0)
OWN = Images(*small.stripes(9, 60), "own")
SETUP = small.setup(own=OWN)
NONE = Entry(pp_jax.chain())


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A warm start, own images alone and with responses, and a reshaped pool, without a defense."""
    warm = Attacker("warm", learner=Learner(Tempered(), start=Weights(small.victim().params), adapted=20))
    tried = (attackers.PLAIN, warm, attackers.RESHAPED, attackers.OWN_ALONE, OWN_IMAGES.named("plain, own images"))
    return pp_jax.evaluate(
        small.victim(), [], attackers=tried, pool=small.pool(), test=small.test_images(), budget=128, seeds=(0,),
        recipe=small.RECIPE, runs_folder=tmp_path_factory.mktemp("runs"), own=OWN,
    )  # fmt: skip


@pytest.mark.slow
def test_a_warm_start_keeps_what_the_weights_know(report):
    row = report.rows[0]
    assert row.attacks["warm"][0] > row.attacks["plain"][0] + 20


@pytest.mark.slow
def test_records_name_the_weights_by_their_digest(report):
    config = next(r.config for r in report.rows[0].records if r.config["attack"]["name"] == "warm")
    weights = Weights(small.victim().params)
    assert config["attack"]["learner"]["start"] == {"name": "weights", "digest": weights.digest, "partial": False}
    changed = jax.tree.map(lambda leaf: leaf + 1, small.victim().params)
    assert Weights(changed) != weights == Weights(jax.tree.map(np.asarray, small.victim().params))
    assert hash(Weights(small.victim().params)) == hash(weights)


@pytest.mark.slow
def test_the_report_shows_what_own_images_give_alone(report):
    start, more = report.gain(report.rows[0])
    assert start == report.rows[0].attacks["own images alone"][0]
    assert f"own images alone {start:.1f} %" in report.table().note
    assert report.worst(report.rows[0])[0] != "own images alone"
    assert more == pytest.approx(report.rows[0].attacks["plain, own images"][0] - start)


def test_former_attackers_are_recorded_as_before():
    found = attackers.PLAIN.identity()
    assert set(found) == {"name", "recovery", "strategy", "learner", "copies", "probes"}
    assert set(found["learner"]) == {"type", "loss", "extra_outputs", "held_out"}


def test_a_reshaped_pool_is_queried_and_shares_no_responses():
    centred, plain = (runs.Run(NONE, one, 0) for one in (attackers.RESHAPED, attackers.PLAIN))
    found = runs._queried(SETUP, centred, lambda _: None).transfer
    other = runs._queried(SETUP, plain, lambda _: None).transfer
    np.testing.assert_array_equal(found.images, Centred()(other.images))
    assert not np.array_equal(found.answers, other.answers)


def test_a_pool_that_cannot_be_reshaped_is_left_to_others():
    colour = Images(np.zeros((20, 8, 8, 3), np.uint8), name="colour")
    assert not runs.applies(dataclasses.replace(SETUP, pool=colour), NONE, attackers.RESHAPED)
    assert runs.applies(SETUP, NONE, attackers.RESHAPED)


def test_a_loss_without_unlabelled_images_leaves_the_whole_pool_to_queries():
    assert not Learner(Tempered()).reads_unlabelled
    assert Learner(Rotations(), extra_outputs=4).reads_unlabelled
    pp_jax.evaluation.check_budget(256, small.pool(), [attackers.TEMPERED])


def test_own_images_are_of_every_class_and_half_of_what_is_trained_on():
    _, labels = owning.chosen(KEY, OWN, 8)
    assert np.bincount(labels, minlength=4).tolist() == [2, 2, 2, 2]
    targets = TransferSet(small.pool().images[:30], np.full((30, 4), 0.25, np.float32))
    found = owning.joined(KEY, targets, OWN, 8, 4)
    assert (len(found.images), found.answers.shape, found.images.dtype) == (60, (60, 4), np.uint8)
    np.testing.assert_array_equal(found.answers[30:].max(axis=1), 1)
    labelled = owning.joined(KEY, targets._replace(answers=np.zeros(30, int)), OWN, 8, 4)
    assert labelled.answers.shape == (60,)


@pytest.mark.parametrize(
    ("attacker", "change", "message"),
    [
        (attackers.OWN_ALONE, {"own": None}, "own is None: must be Images"),
        (attackers.OWN_ALONE, {"own": Images(OWN.images[:5], OWN.labels[:5])}, "own is 5 images: must be Images"),
        (
            attackers.OWN_ALONE,
            {"own": Images(np.zeros((20, 9, 9, 1)), np.zeros(20, int))},
            r"own has images \(9, 9, 1\)",
        ),
        (attackers.OWN_ALONE, {"own": Images(OWN.images, OWN.labels + 1)}, "own has the label 4"),
        (
            Attacker("warm", learner=Learner(start=Weights({"params": {}}))),
            {},
            "is missing, the attacker's network needs",
        ),
        (Attacker("warm", learner=Learner(start=Weights({}, partial=True))), {}, "no leaf fits"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_query(attacker, change, message):
    options = {"own": OWN, **change}
    with pytest.raises(ValueError, match=message) as error:
        pp_jax.evaluate(
            small.victim(), [], attackers=[attackers.PLAIN, attacker], pool=small.pool(), test=small.test_images(),
            budget=64, seeds=(0,), recipe=small.RECIPE, runs_folder="never made", **options,
        )  # fmt: skip
    assert "\n" not in str(error.value)


def test_a_head_of_other_classes_starts_fresh():
    wide = small.network().with_outputs(7).init(KEY, (8, 8, 1))
    with pytest.raises(ValueError, match="partial=True"):
        Weights(wide).check(small.network(), (8, 8, 1))
    begun = Weights(wide, partial=True).start(jax.random.key(1), small.network(), (8, 8, 1))
    chosen = jax.tree.map(lambda a, b: a.shape == b.shape and bool((a == b).all()), begun["params"], wide["params"])
    assert sum(jax.tree.leaves(chosen)) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Attacker("bad", reshape="centred"), "must have applies_to"),
        (lambda: Attacker("bad", own=-1), "own -1"),
        (lambda: Learner(adapted=-1), "adapted is -1"),
        (lambda: Learner(Rotations(), extra_outputs=4, adapted=5), "adapted is 5"),
        (lambda: Attacker("bad", online="fixed", own=3), "must be None where another part"),
    ],
)
def test_attackers_that_contradict_themselves_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_standard_holds_the_uninformed_and_no_labelled_image():
    names = [attacker.name for attacker in STANDARD]
    assert {"defense inference", "plain, pool reshaped", "neighbours, pool reshaped", "temperature 100"} <= set(names)
    assert not any(attacker.own or attacker.privileged for attacker in STANDARD)
    assert STANDARD.version == "2026.12"
    assert runs.applies(SETUP, Entry(Top1), attackers.INFERENCE)
