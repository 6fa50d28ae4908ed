"""Defenses with a memory behind the prediction API, and the networks that defenses keep beside the victim."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import MAD, BlackBox, attacks, calibration, perturb, records, stream
from pp_jax.defenses import ModelGuardS
from pp_jax.serving.blackbox import Session
from pp_jax.serving.perturbation import perturb_sequence
from scripts import EXPERIMENTS, SMALL, THEFT, prepare_stripes, script
from support import linear_logits, linear_params

PARAMS = linear_params(jax.random.key(0), 16, 4)
IMAGES = np.random.default_rng(1).random((12, 4, 4, 1), np.float32)
GUARD = ModelGuardS(0.6, 4, candidates=0)
BOX = BlackBox(linear_logits, PARAMS, GUARD, jax.random.key(2))


def test_a_session_answers_batches_as_one_sequence_and_another_user_begins_anew():
    clean = BlackBox(linear_logits, PARAMS)(IMAGES)[0]
    whole, state = perturb_sequence(GUARD, GUARD.init(), clean, IMAGES, key=BOX.key)
    session = BOX.session()
    parts = [session(IMAGES[i : i + 6]) for i in (0, 6)]
    np.testing.assert_array_equal(np.concatenate([answers for answers, _ in parts]), whole)
    np.testing.assert_allclose(np.concatenate([audit.probs for _, audit in parts]), clean, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, session.state, state)
    # A new user's first question gets a new answer, not an old user's.
    last = IMAGES[-6:]
    alone, _ = perturb_sequence(GUARD, GUARD.init(), clean[-6:], last, key=BOX.key)
    np.testing.assert_array_equal(BOX.session()(last)[0], alone)


def test_the_api_of_a_defense_with_memory_is_a_session():
    session, api = BOX.session(), BOX.api()
    for part in (IMAGES[:6], IMAGES[6:], IMAGES[:6]):
        np.testing.assert_array_equal(api(part), session(part)[0])
    stolen = attacks.collect(jax.random.key(3), attacks.Knockoff(batch_size=6), IMAGES, BOX.api(), budget=12)
    assert stolen.answers.shape == (12, 4)


def test_a_refused_batch_changes_no_memory():
    session = BOX.session()
    session(IMAGES[:6])
    before = jax.tree.map(np.array, session.state)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        session(IMAGES[:6] + 2)
    jax.tree.map(np.testing.assert_array_equal, session.state, before)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match=r"ModelGuardS remembers its answers: ask it in a session\(\)"):
        BOX(IMAGES)
    clean = BlackBox(linear_logits, PARAMS)(IMAGES)[0]
    for answers in (
        lambda: perturb(GUARD, clean, IMAGES, key=BOX.key),
        lambda: next(stream.perturb(GUARD, [(clean, IMAGES)], key=BOX.key)),
        lambda: next(stream.ask(BOX, IMAGES)),
    ):
        with pytest.raises(ValueError, match=r"ModelGuardS remembers its answers: .* or by perturb_sequence"):
            answers()
    plain = BlackBox(linear_logits, PARAMS, MAD(linear_logits, PARAMS, 0.5))
    assert plain.session() is plain
    with pytest.raises(ValueError, match="MAD has no memory: ask the black box itself"):
        Session(plain)
    keyless = dataclasses.replace(BOX, key=None)
    with pytest.raises(ValueError, match="ModelGuardS draws random numbers"):
        keyless.session()(IMAGES[:6])


def test_a_family_with_memory_is_calibrated_on_the_sequence():
    rng = np.random.default_rng(0)
    probs = jnp.asarray(rng.dirichlet(np.full(4, 0.5), 100), jnp.float32)
    images = rng.random((100, 2, 2, 1), np.float32)
    key = jax.random.key(1)
    found = calibration.calibrate(
        lambda s: ModelGuardS(s, 4, candidates=0), probs, images, target=0.2, low=0.0, high=2.0, key=key, tolerance=0.05
    )
    answers, _ = perturb_sequence(found.defense, found.defense.init(), probs, images, key=key)
    assert found.met
    assert float(calibration.mean_l1(probs, answers)) == pytest.approx(found.cost, abs=1e-6)


def test_settings_of_before_are_what_they_were(scripts):
    victim = scripts("train_victim").Victim()
    assert victim.settings() == {
        "dataset": "mnist", "model": "lenet", "epochs": 4, "batch_size": 64, "learning_rate": 0.1, "momentum": 0.5,
        "decay_every": 3, "seed": 0,
    }  # fmt: skip
    exposed = dataclasses.replace(victim, outliers="omniglot_28").settings()
    assert exposed == {**victim.settings(), "outliers": "omniglot_28", "outlier_weight": 0.5}
    defense = scripts("owners.defenses").Defense
    assert defense("mad", epsilon=0.5).settings() == {"name": "mad", "epsilon": 0.5}
    assert defense("edm").settings() == {"name": "edm", "outliers": "omniglot_28", "network_epochs": 2, "members": 5}
    assert defense("misinformation").settings() == {"name": "misinformation", "tau": 0.7, "network_epochs": 2}


def test_networks_that_are_not_trained_or_cannot_disagree_are_refused(scripts):
    defense = scripts("owners.defenses").Defense
    with pytest.raises(ValueError, match="members is 1: must be at least 2"):
        defense("edm", members=1).needs()
    with pytest.raises(ValueError, match="network_epochs is 0: must be at least 1"):
        defense("misinformation", network_epochs=0).needs()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("edm", None, "omniglot_28"), "outliers is omniglot_28: must not be the thief's pool"),
        (("edm", None, "notmnist", "mnist"), "outliers is mnist: must not be what the victim is trained on"),
        (("misinformation", None, "notmnist"), r"needs a victim with outlier exposure \(--victim.outliers"),
        (("mad", "notmnist", "notmnist"), "outliers is notmnist: must not be the thief's pool"),
    ],
)
def test_outliers_that_no_defender_has_are_refused(scripts, options, message):
    name, exposed, pool, *own = options
    defense = scripts("owners.defenses").Defense(name, outliers=own[0] if own else "omniglot_28")
    victim = scripts("train_victim").Victim(outliers=exposed)
    with pytest.raises(ValueError, match=message):
        scripts("owners.networks").check(defense.needs(), victim, pool=pool)


@pytest.mark.parametrize("other", [{"noise_multiplier": 1.0}, {"weights": EXPERIMENTS / "steal.py"}])
def test_an_exposed_victim_is_trained_and_not_privately(scripts, other):
    with pytest.raises(ValueError, match="must not be given where outliers are"):
        scripts("train_victim").Victim(outliers="omniglot_28", **other).recipe()


def test_what_is_kept_is_made_once(scripts, tmp_path):
    calls = []

    def make():
        calls.append(1)
        return PARAMS, {"accuracy": 1.0}

    for _ in range(2):
        found = scripts("cells.keeping").kept(tmp_path, {"it": 1}, PARAMS, make, kind="networks")
        jax.tree.map(np.testing.assert_array_equal, found, PARAMS)
    assert len(calls) == 1


@pytest.mark.slow
def test_the_defenses_with_networks_and_with_memory_race(tmp_path):
    data_dir = prepare_stripes(tmp_path / "data")
    prepare_stripes(tmp_path / "data", name="foreign")
    options = (*SMALL, "--victim.model", "mlp", *THEFT, "--attack.model", "mlp", "--runs", tmp_path, "--seeds", "0")
    chosen = ("--defenses", "mad_argmax", "grad2", "misinformation", "edm", "modelguard_s", "--outliers", "foreign")
    budgets = ("--l1", ".3", "--accuracy-loss", "2", "--published", "--attackers", "soft", "top1")
    status, text = script("armsrace.py", *options, *chosen, *budgets, data_dir=data_dir, timeout=900)
    assert status == 0, text
    page = (tmp_path / "armsrace" / "armsrace.md").read_text("utf-8")
    assert "no defense (outlier-exposed victim)" in page
    assert "(no budget)" in page
    assert "full strength" in page
    assert "(published, outlier-exposed victim)" in page
    cells = records.load_all(tmp_path / "armsrace", kind="tradeoff")
    exposed = {cell.config["defense"]["name"] for cell in cells if "outliers" in cell.config["victim"]}
    assert exposed == {"none", "misinformation"}
    distilled = {cell.config["defense"]["name"] for cell in cells if "surrogate" in cell.config}
    assert distilled == {"grad2"}
    memory = [cell.result for cell in cells if cell.config["defense"]["name"] == "modelguard_s"]
    assert all(result["query_kept_argmax"] == 1 for result in memory)
