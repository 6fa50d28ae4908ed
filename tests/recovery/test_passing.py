"""Recoveries against a gate: which responses they take for true."""

import dataclasses

import jax
import numpy as np
import pytest

import smallworld as small
from pp_jax import BlackBox, attacks
from pp_jax.defenses import GatedResampled, Top1
from pp_jax.defenses.cards import Defender
from pp_jax.recovery import Consistent, CopyTest, Knowledge, PassingKnown
from pp_jax.types import TransferSet

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def world():
    """Half of a pool is of the victim's distribution and passes the gate, half is noise: boxes by form."""
    victim = small.victim()
    defender = Defender(
        victim.network, victim.params, victim.images, victim.labels, victim.recipe, 4, (8, 8, 1), victim.network, KEY
    )
    noise = np.random.default_rng(0).integers(0, 256, (128, 8, 8, 1)).astype(np.uint8)
    pool = np.concatenate([small.pool().images[:128], noise])

    def box(closed, **options):
        defense = GatedResampled.fitted(defender, closed=closed, share=0.05, **options)
        return BlackBox(victim.network, victim.params, defense, KEY)

    return pool, box


def _genuine(pool, kept):
    """Which of the kept images are of the victim's distribution."""
    known = {image.tobytes() for image in pool[:128]}
    return np.array([image.tobytes() in known for image in kept])


def _knowledge(box):
    return Knowledge(small.network(), small.RECIPE, deployed=box.defense, victim=(box.logits_fn, box.params))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("closed", "amplitude", "found"), [("drawn", 1.0, True), ("local", 0.0, True), ("local", 1.0, False)]
)
def test_copies_tell_what_is_drawn_or_stored_and_not_what_varies_as_a_victim_does(world, closed, amplitude, found):
    pool, box = world
    box = box(closed, amplitude=amplitude)
    transfer = attacks.collect(KEY, attacks.NearCopies(batch_size=64), pool, box.api(), budget=400)
    kept = CopyTest(least=1e-5)(KEY, transfer, knowledge=_knowledge(box))
    share = _genuine(pool, kept.images).mean()
    assert share > 0.75 if found else share < 0.65


@pytest.mark.slow
def test_the_bound_keeps_what_passes_and_only_that(world):
    pool, box = world
    box = box("local")
    transfer = TransferSet(pool, box.api()(pool))
    kept = PassingKnown()(KEY, transfer, knowledge=_knowledge(box))
    assert _genuine(pool, kept.images).mean() > 0.9
    assert 100 <= len(kept.images) <= 140


def test_what_a_model_fits_best_is_kept():
    images, labels = small.pool().images, small.pool().labels
    answers = np.full((256, 4), 0.02, np.float32)
    answers[np.arange(256), labels] = 0.94
    answers[128:] = answers[128:][np.random.default_rng(0).permutation(128)]
    learner = Knowledge(small.network(), dataclasses.replace(small.RECIPE, epochs=8))
    kept = Consistent(0.5)(KEY, TransferSet(images, answers), knowledge=learner)
    assert len(kept.images) == 128
    truth = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    right = [truth[image.tobytes()] == row.argmax() for image, row in zip(kept.images, kept.answers, strict=True)]
    assert np.mean(right) > 0.8


def test_each_image_is_queried_with_copies_that_differ_in_one_pixel():
    strategy = attacks.NearCopies(copies=3, batch_size=4)
    for pool in (small.pool().images[:6], small.pool().images[:6] / np.float32(255)):
        state = strategy.init(KEY, pool)
        groups = strategy.ask(state).reshape(4, 3, -1)
        assert ((groups[:, 1:] != groups[:, :1]).sum(2) == 1).all()
        assert ((groups >= 0) & (groups <= (255 if pool.dtype == np.uint8 else 1))).all()
        state = strategy.tell(state, groups, np.zeros((12, 4)))
        assert len(strategy.ask(state)) == 6
    assert strategy.capacity(6) == 18


def test_who_applies_to_what_and_bad_numbers():
    assert not CopyTest().applies_to(Top1())
    assert not PassingKnown().applies_to(Top1())
    assert Consistent().applies_to(Top1())
    with pytest.raises(ValueError, match="share must be above 0"):
        Consistent(0.0)
    with pytest.raises(ValueError, match="copies must be a whole number of at least 2, not 1"):
        CopyTest(1)
    with pytest.raises(ValueError, match="copies must be a whole number of at least 2, not 1"):
        attacks.NearCopies(1)
