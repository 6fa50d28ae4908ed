"""Thieves of the experiments who trust some answers, or none: which lessons they take, and what they refuse."""

import dataclasses
import types
import typing

import numpy as np
import pytest

from pp_jax import records
from scripts import SMALL, THEFT, script
from support import blobs, given_logits

NEW = ("confident", "s4l", "mixmatch")


def attack(scripts, **changes):
    """An attack on the pool of stripes."""
    return scripts("thieves.attackers").Attack(**({"pool": "stripes", "budget": 160, "epochs": 2} | changes))


@pytest.mark.parametrize(
    ("share", "rows"),
    [(0.5, [1, 3]), (0.25, [1]), (0.01, [1]), (1.0, [0, 1, 2, 3])],
)
def test_a_confident_thief_keeps_the_most_certain_answers_in_their_order(scripts, share, rows):
    answers = np.array([[0.4, 0.6], [0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])
    np.testing.assert_array_equal(scripts("thieves.trusting").most_certain(answers, share=share), rows)


def test_of_labels_alone_the_first_half_is_kept(scripts):
    rows = scripts("thieves.trusting").most_certain(np.eye(3)[[2, 0, 1, 1, 0]], share=0.5)
    np.testing.assert_array_equal(rows, [0, 1])


def test_a_confident_thief_learns_labels_of_few_images(scripts):
    config = types.SimpleNamespace(
        attack=attack(scripts, labels="confident"), defense=scripts("owners.defenses").Defense()
    )
    answers = np.array([[0.4, 0.6], [0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])
    images, classes = scripts("thieves.trusting").lessons(config, None, np.arange(4), answers)
    np.testing.assert_array_equal(images, [1, 3])
    np.testing.assert_array_equal(classes, [0, 1])


def test_a_balanced_thief_keeps_no_class_beyond_the_median(scripts):
    import jax

    answers = np.eye(4)[[0] * 9 + [1] * 2 + [2] * 3 + [3]]
    rows = scripts("thieves.trusting").evened(jax.random.key(0), answers)
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(np.bincount(answers[rows].argmax(1)), [2, 2, 2, 1])


def test_who_has_the_misinforming_network_keeps_what_it_did_not_answer(scripts):
    wrong = np.float32([[0.6, 0.4], [0.1, 0.9], [0.3, 0.7]])
    images = np.log(wrong)[:, :, None, None]
    defense = types.SimpleNamespace(logits_fn=given_logits, params=None)
    answers = np.float32([[0.6, 0.4], [0.9, 0.1], [0.3, 0.7]])
    np.testing.assert_array_equal(scripts("thieves.trusting").unmisled(defense, images, answers), [1])
    np.testing.assert_array_equal(scripts("thieves.trusting").unmisled(defense, images, wrong), [0, 1, 2])


def test_unasked_images_are_new_distinct_and_drawn_by_the_key(scripts):
    import jax

    unasked = scripts("thieves.unanswered").unasked
    pool = np.arange(20, dtype=np.uint8).reshape(10, 1, 2, 1)
    pool[9] = pool[0]  # a copy of one whose answer is known
    few, again, other = (unasked(jax.random.key(seed), pool, pool[:4], most=3) for seed in (0, 0, 1))
    np.testing.assert_array_equal(few, again)
    assert not np.array_equal(few, other)
    every = unasked(jax.random.key(0), pool, pool[:4], most=100)
    np.testing.assert_array_equal(every, pool[4:9])
    with pytest.raises(ValueError, match="no image of the pool is left"):
        unasked(jax.random.key(0), pool, pool, most=3)


def test_grey_images_are_never_mirrored(scripts):
    import jax

    lopsided = np.zeros((8, 8, 1), np.uint8)
    lopsided[3:5, 3:5, 0] = [[9, 0], [9, 9]]
    mirror = lopsided[:, ::-1]
    change = scripts("thieves.unanswered").changes(lopsided.shape)
    shifts = {np.roll(mirror, (row, column), (0, 1)).tobytes() for row in range(-2, 3) for column in range(-2, 3)}
    seen = {np.asarray(change(key, lopsided)).tobytes() for key in jax.random.split(jax.random.key(0), 40)}
    assert len(seen) > 5
    assert not seen & shifts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": "s4l", "name": "jbda"}, "name is jbda: must be knockoff or knockoff_adaptive where labels is s4l"),
        ({"labels": "s4l", "name": "online"}, "name is online: must be knockoff"),
        ({"labels": "mixmatch", "augmentation": "cifar"}, "augmentation is cifar: must be none"),
        ({"labels": "mixmatch", "warm_start": "mnist"}, "warm_start is mnist: must be None"),
        ({"labels": "s4l", "validation": 0.1}, "validation is 0.1: must be 0.0 where labels is s4l"),
        ({"labels": "agreeing", "budget": 2}, "copies is 3: must be at most the budget, 2"),
    ],
)
def test_what_cannot_be_is_refused(scripts, changes, message):
    with pytest.raises(ValueError, match=message):
        attack(scripts, **changes).check()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("confident_share", 0.0, "must be above 0 and at most 1"),
        ("agreeing_share", 1.5, "must be above 0 and at most 1"),
        ("s4l_weight", -1.0, "must be at least 0 and finite"),
        ("mixmatch_alpha", float("nan"), "must be at least 0 and finite"),
        ("copies", 0, "must be at least 1"),
        ("pairs", 1, "must be at least 2"),
        ("shadow_queries", 1, "must be at least 2"),
    ],
)
def test_efforts_that_cannot_be_are_refused(scripts, setting, value, message):
    with pytest.raises(ValueError, match=f"{setting} is {value}: {message}"):
        scripts("thieves.efforts").Effort(**{setting: value})


def test_records_know_a_thief_by_its_own_settings_and_no_others(scripts):
    efforts = scripts("thieves.efforts")
    plain = attack(scripts).settings()
    assert not {field.name for field in dataclasses.fields(efforts.Effort)} & set(plain)
    assert attack(scripts, labels="confident").settings() == plain | {"labels": "confident", "confident_share": 0.5}
    more = attack(scripts, labels="agreeing", effort=efforts.Effort(copies=5)).settings()
    assert more == plain | {"labels": "agreeing", "copies": 5, "agreeing_share": 0.3}
    # Every setting belongs to some thief, and every thief that has settings exists.
    labels = typing.get_args(scripts("thieves.attackers").Labels)
    known = [name for each in labels for name in efforts.Effort().settings(each)]
    assert set(known) == {field.name for field in dataclasses.fields(efforts.Effort)}


@pytest.mark.parametrize("labels", NEW)
def test_only_plain_answers_are_learnt_in_one_program(scripts, labels):
    undefended = scripts("owners.defenses").Defense("none")
    config = types.SimpleNamespace(attack=attack(scripts, labels=labels), defense=undefended)
    assert not scripts("thieves.theft").batchable(config)
    assert scripts("thieves.recovering").possible(labels, undefended)


def test_a_thief_who_asks_about_the_whole_pool_has_nothing_left_to_learn_from(scripts):
    check_left, chosen = scripts("thieves.unanswered").check_left, attack(scripts, labels="s4l", budget=400)
    check_left(chosen, range(401))
    check_left(attack(scripts, labels="soft", budget=400), range(400))
    with pytest.raises(ValueError, match="budget is 400: must be below 400, the images of stripes"):
        check_left(chosen, range(400))


@pytest.mark.slow
@pytest.mark.parametrize("labels", [*NEW, "smoothing", "ddae"])
def test_every_thief_learns(labels, data_dir, tmp_path):
    options = ("--runs", tmp_path, *SMALL, *THEFT, "--attack.epochs", "6", "--attack.labels", labels)
    defense = ("--defense.name", "mad", "--defense.epsilon", ".2")
    status, text = script("steal.py", *options, *defense, data_dir=data_dir)
    assert status == 0, text
    (record,) = records.load_all(tmp_path / "steal", kind="tradeoff")
    assert record.config["attack"]["labels"] == labels
    assert record.result["attacker_accuracy"] > 0.6  # chance is .25
    # A mean over changed copies is not within the defense's reach of the image's own posterior.
    assert labels == "smoothing" or 0 < record.result["query_l1"]["max"] <= 0.2 + 1e-6
    assert not list(tmp_path.rglob("*.partial"))


@dataclasses.dataclass
class Pool:
    """Images by name."""

    images: np.ndarray

    def __len__(self):
        return len(self.images)


@pytest.fixture
def gated():
    """A victim whose posterior is the image itself; strange is where the second class is likelier."""
    victim = types.SimpleNamespace(network=given_logits, params=None)
    defense = types.SimpleNamespace(strange=lambda probs, image: probs[1] > probs[0])
    return types.SimpleNamespace(victim=victim, box=types.SimpleNamespace(defense=defense))


def test_who_is_told_what_is_strange_keeps_the_rest(scripts, gated):
    images = np.log(np.float32([[0.6, 0.4], [0.1, 0.9], [0.7, 0.3]]))[:, :, None, None]
    np.testing.assert_array_equal(scripts("thieves.trusting").strange(gated, images), [False, True, False])
    keyed = scripts("owners.defenses").Defense("keyed_swap")
    config = types.SimpleNamespace(attack=attack(scripts, labels="genuine"), defense=keyed)
    np.testing.assert_array_equal(scripts("thieves.trusting").trusted(config, gated, images, None), [0, 2])
    np.testing.assert_array_equal(scripts("thieves.trusting").some(np.array([False, False])), [0, 1])


def test_who_has_the_gate_asks_first_about_what_passes(scripts, gated):
    import jax

    pool = np.log(np.float32([[0.6, 0.4], [0.1, 0.9], [0.7, 0.3], [0.2, 0.8]]))[:, :, None, None]
    gated.pool, gated.attack_key = Pool(pool), jax.random.key(0)

    def asked(budget):
        config = types.SimpleNamespace(attack=attack(scripts, labels="passing", budget=budget))
        chosen = scripts("thieves.seeking").pool(config, gated)
        return {int((pool == image).all(axis=(1, 2, 3)).argmax()) for image in chosen}

    assert asked(1) < asked(2) == {0, 2} < asked(3) < asked(4) == {0, 1, 2, 3}


def test_a_seeking_thief_asks_half_at_random_and_then_what_its_model_is_surest_of(scripts):
    import jax

    from pp_jax import attacks, metrics, training
    from support import Linear

    images, labels = blobs(0, 60)
    recipe, network = training.Recipe(3, 16, 0.5), Linear(4)
    told = []

    def api(asked):
        told.append(len(asked))
        return np.eye(4, dtype=np.float32)[[labels[(images == one).all(axis=(1, 2, 3)).argmax()] for one in asked]]

    seeking = scripts("thieves.seeking").Seeking(network, recipe, 40, batch_size=16)
    taken = attacks.collect(jax.random.key(0), seeking, images, api, budget=40)
    assert told == [16, 4, 16, 4]
    assert len(np.unique(taken.images.reshape(40, -1), axis=0)) == 40
    substitute = training.fit(
        jax.random.split(jax.random.key(0))[1], network, taken.images[:20], taken.answers[:20], recipe
    )
    certainty = metrics.predict(network, substitute, images).max(axis=1)
    asked = [int((images == one).all(axis=(1, 2, 3)).argmax()) for one in taken.images]
    assert (np.diff(certainty[asked[20:]]) <= 0).all()
    assert certainty[asked[20:]].min() >= certainty[sorted(set(range(60)) - set(asked))].max()
