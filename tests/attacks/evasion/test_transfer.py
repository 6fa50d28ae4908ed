"""Transfer: the shares are those of their definitions, and what a stolen model is good for shows in them."""

import functools

import jax
import numpy as np
import pytest

import smallworld as small
from pp_jax import BlackBox, metrics, training
from pp_jax.attacks import Knockoff, collect
from pp_jax.attacks.evasion import FGSM, RandomSigns, Transfer, craft, random_targets, transfer

KEY = jax.random.key(0)


class Says:
    """A model that says the classes it is given, for images that hold their own number."""

    def __init__(self, clean, after):
        self.classes = [*clean, *after]

    def __call__(self, images):
        return np.eye(4)[[self.classes[round(255 * float(image.max()))] for image in images]]


IMAGES = np.arange(12, dtype=np.float32).reshape(-1, 1, 1, 1) / 255
LABELS = np.array([0, 0, 1, 1, 2, 2])


def _transfer(source, victim, **options):
    return transfer(Says(*source), Says(*victim), IMAGES[:6], IMAGES[6:], LABELS, **options)


def test_only_images_that_both_are_right_about_count():
    source = [0, 0, 1, 1, 3, 2], [1, 0, 2, 3, 0, 0]  # wrong about image 4; image 1 does not evade it
    victim = [0, 0, 1, 1, 2, 1], [1, 3, 3, 1, 0, 3]  # wrong about image 5; image 3 does not evade it
    assert _transfer(source, victim) == Transfer(
        attacker_gain=4 / 5,  # images 0, 1, 2, 4 of 0 … 4
        right=5,
        both_right=4,
        evades_source=3 / 4,
        evades_victim=3 / 4,
        transferred=2 / 3,
        same_class=1 / 2,
    )


def test_with_targets_another_wrong_class_is_no_success():
    right, after = list(LABELS), [1, 3, 3, 1, 0, 3]
    found = _transfer((right, [1, 1, 3, 3, 3, 3]), (right, after), targets=[1, 1, 3, 3, 3, 3])
    assert found.attacker_gain == found.evades_victim == found.transferred == 3 / 6
    assert (found.evades_source, found.same_class) == (1, 1)


def test_shares_of_nothing_are_none():
    wrong = [3] * 6, [3] * 6
    assert _transfer(wrong, (LABELS, LABELS)) == Transfer(0.0, 6, 0, None, None, None, None)
    assert _transfer(wrong, wrong) == Transfer(None, 0, 0, None, None, None, None)
    unmoved = LABELS, LABELS
    assert _transfer(unmoved, unmoved) == Transfer(0.0, 6, 6, 0.0, 0.0, None, None)


@pytest.mark.slow
def test_examples_of_a_stolen_model_evade_its_victim():
    victim, test = small.victim(), small.test_images()
    stolen = collect(KEY, Knockoff(), small.pool().images, BlackBox(victim.network, victim.params).api(), budget=256)
    params = training.fit(KEY, small.network(), stolen.images, stolen.answers, training.Recipe(8, 32, 0.05))
    own, theirs = (functools.partial(metrics.predict, small.network(), each) for each in (params, victim.params))
    adversarial = craft(KEY, FGSM(0.3), small.network(), params, test.images, test.labels)
    pixels = test.images / np.float32(255)
    noise = craft(KEY, RandomSigns(0.3), small.network(), params, test.images, test.labels)
    moved = np.abs(noise - pixels)
    np.testing.assert_allclose(moved[(noise > 0) & (noise < 1)], 0.3, atol=1e-6)
    found, by_noise = (transfer(own, theirs, pixels, images, test.labels) for images in (adversarial, noise))
    assert found.evades_source > 0.8
    assert found.attacker_gain > by_noise.attacker_gain + 0.3
    assert found.transferred >= found.evades_victim - 0.2


def test_targets_are_other_classes_and_all_of_them():
    labels = np.arange(4000) % 4
    targets = random_targets(KEY, labels, classes=4)
    assert (targets != labels).all()
    _, counts = np.unique(4 * labels + targets, return_counts=True)
    assert len(counts) == 12
    assert counts.min() > 250


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _transfer((LABELS, LABELS), (LABELS, LABELS), targets=LABELS), "targets are the labels of 6 of 6"),
        (lambda: transfer(None, None, IMAGES[:6], IMAGES[:5], LABELS), "images and adversarial must have one shape"),
        (lambda: transfer(None, None, IMAGES[:6], IMAGES[:6], LABELS[:5]), "labels have shape"),
        (lambda: transfer(lambda x: x, None, IMAGES[:6], IMAGES[:6], LABELS), r"a model returned \(6, 1, 1, 1\)"),
        (lambda: random_targets(KEY, [0], classes=1), "classes is 1: must be at least 2"),
        (lambda: random_targets(KEY, [4], classes=4), "labels are from 4 to 4"),
    ],
)
def test_bad_inputs_are_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
