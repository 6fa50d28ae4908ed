"""A policy among the defenses of an evaluation: what its attackers learn from, and what it costs benign accounts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pp_jax
import smallworld as small
from pp_jax import MAD, BlackBox, Entry, Top1, chain, detection
from pp_jax.detection import Blocked, Policy, Throttled, makers
from pp_jax.evaluation import Images, attackers, evaluating, judging, named, runs
from pp_jax.types import TransferSet

QUICKLY = {"detector": functools.partial(makers.p_values, window=32), "rates": (0.05,), "queries": 64, "accounts": 40}
BLOCKING = Entry(Policy, actions=(chain(), Blocked()), **QUICKLY)


@functools.cache
def noise():
    return Images(np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1), np.uint8), name="noise")


def watcher():
    """A detector of repeated labels."""
    return detection.LabelMMD(jnp.full(4, 0.25), window=8)


def made(actions, **options):
    victim = small.victim()
    return Policy(watcher(), (0.2,) * (len(actions) - 1), actions, victim.network.features, victim.params, **options)


@pytest.mark.slow
def test_a_policy_stands_in_the_worst_case_table_and_says_whom_it_accuses(tmp_path):
    world = {"pool": noise(), "test": small.test_images(), "budget": 96, "seeds": (0,), "recipe": small.RECIPE}
    racers = [attackers.PLAIN, attackers.HARD_LABEL, attackers.PARTIAL_BAYES]
    entries = [BLOCKING, Entry(Policy, **QUICKLY)]
    report = pp_jax.evaluate(small.victim(), entries, attackers=racers, runs_folder=tmp_path, **world)
    assert [row.entry.entry.label for row in report.rows] == [
        "no defense", "partial of p_values → blocked at 5 %", "partial of p_values → resampled at 5 %",
    ]  # fmt: skip
    blocked, resampled = report.rows[1:]
    assert set(blocked.attacks) == {"plain", "hard label"}  # nothing is left to recover from refusals
    assert set(resampled.attacks) == {"plain", "hard label", "partial Bayes"}
    for row in (blocked, resampled):
        accused = row.records[0].result["accused"]
        assert set(accused) == {"uniform", "skewed", "bursty", "repeated"}
        assert all(0 <= share <= 1 for share in accused.values())
        assert row.records[0].result["query_l1"]["mean"] > 0
    assert "accuses of benign accounts: uniform" in report.table().note
    again = pp_jax.evaluate(small.victim(), entries, attackers=racers, runs_folder=tmp_path, **world)
    assert again.rows[1].attacks == blocked.attacks


def test_attackers_learn_nothing_from_responses_that_say_nothing():
    images = np.arange(4)[:, None, None, None]
    rows = np.array([[0.7, 0.3], [0.5, 0.5], [0.2, 0.8], [0.5, 0.5]])
    kept = runs.answered(TransferSet(images, rows))
    assert kept.images.ravel().tolist() == [0, 2]
    np.testing.assert_array_equal(kept.answers, rows[[0, 2]])
    silent = TransferSet(images, np.full((4, 2), 0.5))
    assert runs.answered(silent) is silent


def test_a_blocked_attacker_trains_on_what_it_had_before(monkeypatch):
    setup = small.setup(pool=noise(), budget=64)
    at = runs.deploy(setup, Entry(made((chain(), Blocked()))), 0)
    stolen = runs.query(setup, at, attackers.PLAIN, lambda _: None)
    targets = runs.recover(setup, at, attackers.PLAIN, stolen)
    uniform = np.ptp(np.asarray(stolen.transfer.answers), axis=1) < 1e-6
    assert 0 < uniform.sum() < 64
    assert len(targets.answers) == 64 - uniform.sum()


def test_an_attacker_with_accounts_enough_is_never_blocked():
    setup = small.setup(pool=noise(), budget=64)
    at = runs.deploy(setup, Entry(made((chain(), Blocked()))), 0)
    blocked = {}
    for count in (1, 4, 16):
        attacker = dataclasses.replace(attackers.ACCOUNTS, accounts=count)
        stolen = runs.query(setup, at, attacker, lambda _: None)
        assert stolen.queries == len(stolen.transfer.answers) == 64
        blocked[count] = (np.ptp(np.asarray(stolen.transfer.answers), axis=1) < 1e-6).sum()
    assert blocked[1] > blocked[4] > 0
    assert blocked[16] == 0  # four queries each: the detector's window of eight never fills


def test_accounts_change_only_defenses_with_a_memory():
    setup = small.setup()
    assert not runs.applies(setup, Entry(Top1), attackers.ACCOUNTS)
    assert runs.applies(setup, Entry(made((chain(), Blocked()))), attackers.ACCOUNTS)
    assert attackers.PLAIN.naive
    assert not attackers.ACCOUNTS.naive  # it would not do so without a policy


@pytest.mark.parametrize("cuts", [(64,), (1, 40, 23)])
def test_accounts_get_an_even_share_however_queries_are_batched(cuts):
    asked = []

    def api():
        mine = []
        asked.append(mine)
        return lambda images: mine.extend(images.tolist()) or images

    ask, images = runs.spread(api, 5, 64), np.arange(64)
    found = [ask(part) for part in np.split(images, np.cumsum(cuts)[:-1])]
    np.testing.assert_array_equal(np.concatenate(found), images)
    assert [image for each in asked for image in each] == images.tolist()
    assert [len(each) for each in asked] == [13, 13, 13, 13, 12]


def test_fewer_than_one_account_is_refused():
    with pytest.raises(ValueError, match="accounts is 0: must be at least 1"):
        dataclasses.replace(attackers.ACCOUNTS, accounts=0)


def test_every_test_account_is_as_long_as_those_that_thresholds_were_set_on():
    victim, images = small.victim(), small.test_images().images
    order = np.argsort(small.test_images().labels, kind="stable")
    for queries, share in ((None, 0.9), (7, 0.0)):  # never eight queries of one class in an account of seven
        box = BlackBox(victim.network, victim.params, made((chain(), Blocked()), account_queries=queries))
        answers, _ = judging.ask(box, images[order])
        assert (np.ptp(answers, axis=1) < 1e-6).mean() == pytest.approx(share, abs=0.1)


def test_what_attackers_recover_from_is_the_strongest_action_that_answers():
    victim = small.victim()
    mad = MAD(victim.network, victim.network.init(jax.random.key(1), (8, 8, 1)), 0.9)
    assert made((chain(), mad, Blocked())).acting is mad
    assert made((chain(), Throttled(2.0))).acting == chain()
    setup = small.setup()
    policy = Entry(made((chain(), mad)))
    assert runs.applies(setup, policy, attackers.INVERSION)
    assert not runs.applies(setup, Entry(made((chain(), Top1()))), attackers.INVERSION)


def test_a_detector_without_a_name_is_refused_and_named_ones_are_told_apart():
    with pytest.raises(ValueError, match="define it by name in a module"):
        evaluating.check([Entry(Policy, detector=lambda *rest: watcher())], [attackers.PLAIN], (0,))
    labels = [Entry(Policy, detector=maker).label for maker in (makers.p_values, makers.prada)]
    assert labels == ["p_values → resampled at 1 %", "prada → resampled at 1 %"]
    contents = {Entry(Policy, detector=maker).identity()["content"] for maker in (makers.p_values, makers.prada)}
    assert len(contents) == 2


def test_a_policy_is_named_on_the_command_line_by_a_file(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from pp_jax import Entry, chain\n"
        "from pp_jax.detection import Blocked, Policy, makers\n"
        "ENTRY = Entry(Policy, detector=makers.prada, actions=(chain(), Blocked()), rates=(0.001,))\n"
    )
    entry = named.defense(f"{mine}:ENTRY")
    assert entry.text() == "prada → blocked at 0.1 %"
    assert evaluating.check([entry], [attackers.PLAIN], (0,))[1] is entry
