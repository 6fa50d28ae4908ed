"""One run: what is queried, recovered and learned, and that every defense meets every attacker."""

import dataclasses

import numpy as np
import pytest

import pp_jax
import smallworld as small
from pp_jax import defenses
from pp_jax.evaluation import STANDARD, Attacker, Entry, Images, attackers, check_budget, runs
from pp_jax.recovery import CANDIDATES, DDAEPlus, DefenseInference, PartialBayes

KNOWN = {"Rounding": {"decimals": 1}, "TopK": {"k": 2}, "RandomNoise": {"radius": 3.0}, "DCP": {"beta": 0.5},
         "BDPL": {"zone": 0.5, "epsilon": 0.1}, "HighConfidence": {"cutoff": 0.1}, "ReverseSigmoid": {},
         "GRAD2": {"surrogate": defenses.Surrogate()}, "EDM": {"members": 2, "epochs": 1},
         "AdaptiveMisinformation": {"epochs": 1, "exposed": False},
         "EMMA": {"passes": 1}, "GatedResampled": {}}  # fmt: skip
NAMES = ("MAD", "ModelGuardW", "ModelGuardS", "KeyedSwap", "Top1", *KNOWN)


def test_every_copy_is_a_query():
    at = runs.deploy(small.setup(budget=100), Entry(defenses.Top1), 0)
    stolen = runs.query(small.setup(budget=100), at, attackers.SMOOTHING, lambda _: None)
    assert stolen.queries == 99  # 33 images, three copies each
    assert len(stolen.transfer.images) == 33


def test_probes_count_against_the_budget():
    setup = small.setup(probe=Images(small.test_images().images, name="other"), budget=100)
    at = runs.deploy(setup, Entry(defenses.KeyedSwap), 0)
    stolen = runs.query(setup, at, dataclasses.replace(attackers.NEIGHBOURS, probes=20), lambda _: None)
    assert (stolen.queries, len(stolen.transfer.images), len(stolen.probe.images)) == (100, 80, 20)


def test_attackers_that_query_alike_share_the_responses(monkeypatch):
    setup, entry = small.setup(), Entry(defenses.RandomNoise, radius=2.0)
    first = runs._queried(setup, runs.Run(entry, attackers.PLAIN, 0), lambda _: None)
    assert runs._queried(setup, runs.Run(entry, attackers.HARD_LABEL, 0), lambda _: None) is first
    assert runs._queried(setup, runs.Run(entry, attackers.PLAIN, 1), lambda _: None) is not first


def test_unlabelled_images_were_not_queried():
    pool = small.pool().images
    others = runs.unqueried(pp_jax.evaluation.runs.jax.random.key(0), pool, pool[:100], most=1000)
    known = {image.tobytes() for image in pool[:100]}
    assert len(others)
    assert not any(image.tobytes() in known for image in others)
    with pytest.raises(ValueError, match="no image of the pool is left"):
        runs.unqueried(pp_jax.evaluation.runs.jax.random.key(0), pool, pool, most=10)


def test_an_online_attacker_is_seen_only_by_a_defense_with_a_surrogate_of_its_network():
    setup, white = small.setup(), Attacker("white box", online="attacker")
    assert runs.applies(setup, Entry(defenses.MAD), white)
    assert not runs.applies(setup, Entry(defenses.Top1), white)
    assert runs.applies(setup, Entry(defenses.Top1), Attacker("online", online="fixed"))
    assert not runs.applies(setup, Entry(defenses.ModelGuardS, epsilon=0.5), Attacker("online", online="fixed"))
    with pytest.raises(ValueError, match="must be None where another part is not the default"):
        Attacker("both", online="fixed", copies=3)


def test_held_out_responses_choose_the_epoch():
    setup, entry = small.setup(), Entry(defenses.Top1)
    at = runs.deploy(setup, entry, 0)
    transfer = runs.query(setup, at, attackers.PLAIN, lambda _: None).transfer
    chosen = Attacker("held out", learner=attackers.Learner(held_out=0.25))
    _, params = runs.learn(setup, at, chosen, transfer, None, {}, lambda _: None)
    _, plain = runs.learn(setup, at, attackers.PLAIN, transfer, None, {}, lambda _: None)
    assert runs.jax.tree.structure(params) == runs.jax.tree.structure(plain)
    with pytest.raises(ValueError, match="held_out is 1"):
        attackers.Learner(held_out=1.0)


def test_a_budget_is_checked_against_what_the_strategy_can_ask():
    pool = Images(np.zeros((20, 4, 4, 1), np.uint8), name="few")
    made = Attacker("made", strategy=pp_jax.attacks.jbda(small.setup().network, seed_size=5))
    check_budget(1000, pool, [made])
    check_budget(60, pool, [attackers.SMOOTHING])
    with pytest.raises(ValueError, match="at most 20, as few has 20 images"):
        check_budget(21, pool, [attackers.PLAIN])
    with pytest.raises(ValueError, match="must be below 20, the images of few: S4L"):
        check_budget(20, pool, [attackers.S4L])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_defense_meets_every_attacker(name, tmp_path):
    inference = DefenseInference(CANDIDATES[:2], sets=4, size=32)
    few = {"partial Bayes": PartialBayes(2000), "D-DAE+": DDAEPlus(512, 1), "defense inference": inference}
    members = [dataclasses.replace(one, recovery=few.get(one.name, one.recovery)) for one in STANDARD]
    parameters = dict(KNOWN.get(name, {}))
    exposed = parameters.pop("exposed", None)
    entry = Entry(getattr(defenses, name), exposed=exposed, **parameters)
    report = pp_jax.evaluate(
        small.victim(), [entry], attackers=members, pool=small.pool(), test=small.test_images(), budget=128, seeds=(0,),
        recipe=small.RECIPE, outliers=small.stripes(3, 64)[0], runs_folder=tmp_path,
    )  # fmt: skip
    row = report.rows[1]
    always = {"plain", "hard label", "class-balanced", "smoothing", "self-training", "S4L", "defense inference"}
    assert always | {"plain, pool reshaped", "temperature 100"} <= set(row.attacks)
    assert all(0 <= np.mean(values) <= 100 for values in row.attacks.values())
    assert ("neighbours" in row.attacks) == (name == "KeyedSwap")
    assert ("inversion" in row.attacks) == (name in ("MAD", "GRAD2", "EMMA"))
    assert ("partial Bayes" in row.attacks) == (name not in ("ModelGuardS", "EDM", "AdaptiveMisinformation"))


@pytest.mark.slow
def test_the_purpose_of_mad_and_of_its_inversion(tmp_path):
    report = pp_jax.evaluate(
        small.victim(), [Entry(defenses.MAD, epsilon=0.99)], attackers=[Attacker("plain"), attackers.INVERSION],
        pool=small.pool(), test=small.test_images(), budget=256, seeds=(0, 1, 2), recipe=pp_jax.training.Recipe(8, 32),
        runs_folder=tmp_path,
    )  # fmt: skip
    none, mad = (np.mean(row.attacks["plain"]) for row in report.rows)
    assert mad < none - 10
    assert np.mean(report.rows[1].attacks["inversion"]) > none - 5
