"""A victim of recorded answers: the same posteriors, for the images that were recorded and for no other."""

import numpy as np
import pytest

import pp_jax
import smallworld
from pp_jax import BlackBox, Rounding, Victim
from pp_jax.evaluation import attackers
from pp_jax.evaluation.answered import _digests


def answers(images):
    """Posteriors that depend on the image alone."""
    odds = np.exp(np.asarray(images, np.float32).reshape(len(images), 4, -1).mean(2) / 32)
    return odds / odds.sum(axis=1, keepdims=True)


def test_its_posteriors_are_those_recorded(tmp_path):
    images = smallworld.pool().images
    np.savez(tmp_path / "api.npz", images=images, answers=answers(images))
    victim = Victim.recorded(tmp_path / "api.npz")
    box = BlackBox(victim.network, victim.params)
    np.testing.assert_allclose(box(images[::-1])[0], answers(images)[::-1], rtol=1e-5)
    rounded = BlackBox(victim.network, victim.params, Rounding(1))(images[:9])[0]
    np.testing.assert_allclose(rounded.sum(axis=1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="must be finite: 2 of 3 rows do not"):
        box(np.concatenate([images[:1], 255 - images[:2]]))


def test_labels_alone_are_one_hot():
    images = smallworld.pool().images
    victim = Victim.recorded((images, answers(images).argmax(axis=1)))
    found = BlackBox(victim.network, victim.params)(images)[0]
    np.testing.assert_array_equal(found, np.eye(4)[answers(images).argmax(axis=1)])


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_different_images_have_different_digests(dtype):
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 5, (20_000, 3, 3, 1))  # pixels that share their last bits
    images = (levels if dtype == np.uint8 else levels / 4).astype(dtype)
    assert len(np.unique(_digests(images), axis=0)) == len(np.unique(images.reshape(len(images), -1), axis=0))


def evaluate(victim, **options):
    return pp_jax.evaluate(
        victim, [], pool=smallworld.pool(), test=smallworld.test_images(), budget=64, seeds=(0,),
        attackers=[attackers.PLAIN], recipe=smallworld.RECIPE, **options,
    )  # fmt: skip


def recorded(count, api=answers):
    """A victim that is recorded on so many of the images that an evaluation needs."""
    images = np.concatenate([smallworld.test_images().images, smallworld.pool().images])[:count]
    return Victim.recorded((images, api(images)))


@pytest.mark.slow
def test_an_evaluation_of_it_is_that_of_the_victim(tmp_path):
    victim = smallworld.victim()
    there = evaluate(victim, runs_folder=tmp_path / "a").rows[0]
    own = recorded(None, lambda images: np.asarray(BlackBox(victim.network, victim.params)(images)[0]))
    row = evaluate(own, network=smallworld.network(), runs_folder=tmp_path / "b").rows[0]
    assert row.defender == there.defender
    assert row.attacks["plain"] == pytest.approx(there.attacks["plain"], abs=5)


def test_what_it_cannot_answer_is_refused_before_work(tmp_path):
    with pytest.raises(ValueError, match="pool: 56 of 256 images have no recorded answer"):
        evaluate(recorded(128 + 200), network=smallworld.network(), runs_folder=tmp_path)
    with pytest.raises(ValueError, match="network must be given where the victim is recorded answers"):
        evaluate(recorded(None), runs_folder=tmp_path)
    assert not list(tmp_path.iterdir())
