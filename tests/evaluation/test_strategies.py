"""Attackers that choose their queries, by name: completed by what they share, refused before long work."""

import dataclasses

import numpy as np
import pytest

import smallworld
from grids import grid
from pp_jax import attacks, training
from pp_jax.evaluation import ACTIVE, Attacker, Images, Learner, Run, check_budget, evaluate, named, runs, strategies
from pp_jax.evaluation.attackers import HARD_LABEL
from pp_jax.evaluation.entries import Entry
from pp_jax.evaluation.setups import deploy
from pp_jax.recovery.selecting import HardLabel
from smallworld import RECIPE, pool, setup, victim


def refused(**options):
    """The error of an evaluation that must not begin."""
    arguments = {"pool": pool(), "test": smallworld.test_images(), "budget": 64, "seeds": (0,), "recipe": RECIPE}
    with pytest.raises(ValueError) as caught:
        evaluate(victim(), [], runs_folder="nowhere", **{**arguments, **options})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_member_is_found_by_its_name():
    for member in ACTIVE:
        assert named.attacker(member.name).identity() == member.identity()
    with pytest.raises(ValueError, match=r"did you mean SwiftThief\?"):
        named.attacker("SwiftTheif")
    assert len({member.name for member in ACTIVE}) == len(ACTIVE)


def test_copycat_is_random_images_and_hard_labels():
    """No class of its own: the queries and the targets are those of the hard-label attacker."""
    copycat = strategies.COPYCAT
    assert dataclasses.replace(copycat, name=HARD_LABEL.name) == HARD_LABEL
    at = deploy(setup(), Entry.of(named.defense("none")), 0)
    stolen = runs.query(setup(), at, copycat, lambda share: None)
    targets = runs.recover(setup(), at, copycat, stolen)
    order = attacks.Knockoff().init(at.attack_key, pool().images).order[:128]
    np.testing.assert_array_equal(targets.images, pool().images[order])
    np.testing.assert_array_equal(targets.answers, at.box.api()(targets.images).argmax(axis=1))


def test_a_strategy_is_completed_with_what_its_attacker_has():
    found = strategies.completed(strategies.ACTIVE_ENTROPY, "network", RECIPE, 100)
    assert (found.network, found.recipe, found.budget) == ("network", RECIPE, 100)
    assert strategies.completed(HARD_LABEL, "network", RECIPE, 100) == attacks.Knockoff()


def test_what_cannot_be_done_is_refused_before_long_work():
    assert "budget is 12: must be larger for 10 rounds" in refused(attackers=[strategies.ACTIVE_ENTROPY], budget=12)
    assert "(ActiveThief, entropy)" in refused(attackers=[strategies.ACTIVE_ENTROPY], budget=12)
    assert "must be at least 1 and at most 256" in refused(attackers=[strategies.ACTIVE_ENTROPY], budget=300)
    assert "which MLP has not: give another network (Black-box Dissector)" in refused(attackers=[strategies.DISSECTOR])
    assert "at least seed_size=1000 images, not 256 (JBDA-TR)" in refused(attackers=[strategies.JBDA_TR])
    assert "start is given: must be None for SwiftThief" in refused(attackers=[strategies.SWIFT], start={})
    assert "SwiftThief learns from images that are not queried" in refused(attackers=[strategies.SWIFT], budget=256)
    with pytest.raises(ValueError, match=r"for 10 rounds.*\(ActiveThief, k-center\)"):
        check_budget(12, pool(), [strategies.ACTIVE_KCENTER])


@pytest.mark.slow
def test_those_that_train_with_a_loss_of_their_own_steal(tmp_path):
    """On images of 8×8 with a network of one convolution; queries of erased images and of labels alone included."""
    swift = Attacker(
        "swift", strategy=attacks.swift_thief(loss=training.Contrastive(width=8), rounds=2),
        learner=Learner(training.Contrastive(width=8)),
    )  # fmt: skip
    dissector = Attacker(
        "dissector", HardLabel(), attacks.Dissector(rounds=2, variants=3), Learner(training.SelfDistillation(1.0, 3))
    )
    recipe = training.Recipe(12, 16, 0.1, 0.9)
    small = Images(pool().images, pool().labels, "pool")
    report = evaluate(
        victim(), [named.defense("Top1")], pool=small, test=smallworld.test_images(), budget=96,
        attackers=[swift, dissector], seeds=(0,), network=grid(), recipe=recipe, runs_folder=tmp_path,
    )  # fmt: skip
    for row in report.rows:
        assert min(accuracies[0] for accuracies in row.attacks.values()) > 40  # of four classes
    found = {record.config["attack"]["name"]: record for record in report.rows[0].records}
    assert {record.result["queries"] for record in found.values()} == {96}


def test_a_run_is_named_by_the_strategy():
    entry = Entry.of(named.defense("none"))
    one, other = (Run(entry, attacker, 0).config(setup()) for attacker in ACTIVE.attackers[2:4])
    assert one["attack"]["strategy"]["acquisition"] != other["attack"]["strategy"]["acquisition"]
