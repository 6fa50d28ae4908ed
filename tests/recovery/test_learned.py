"""Attackers who sample or learn the presumed defense come closer to the clean posteriors than the answers are."""

import jax
import numpy as np
import pytest

from pp_jax import MAD, BlackBox, perturb
from pp_jax.defenses import RandomNoise, ReverseSigmoid, Top1, chain
from pp_jax.recovery import ddae, ddae_plus, invert_mad, partial_bayes, shadow_posteriors, top1
from pp_jax.serving.blackbox import Metered
from pp_jax.training import Recipe
from support import Linear, blobs, linear_logits, linear_params, quick

REVERSE = ReverseSigmoid(0.6, 0.2)


class Callable4(Linear):
    """The linear network of four classes that can be asked as well."""

    def __init__(self):
        super().__init__(4)

    def __call__(self, params, image):
        return linear_logits(params, image)


def _posteriors(seed, rows, classes=4, concentration=1.0):
    """Clean posteriors, float32."""
    return np.random.default_rng(seed).dirichlet(np.full(classes, concentration), rows).astype(np.float32)


def _blank(rows):
    """Images for a defense that does not look at them."""
    return np.zeros((rows, 1, 1, 1), np.float32)


def _error(targets, probs):
    """Mean L1 distance."""
    return np.abs(np.asarray(targets) - probs).sum(1).mean()


def _mad(epsilon):
    """A surrogate over 4×4 images, and images."""
    images = np.random.default_rng(3).uniform(0, 1, (120, 4, 4, 1)).astype(np.float32)
    return MAD(linear_logits, linear_params(jax.random.key(0), 16, 4), epsilon), images


@pytest.mark.slow
def test_partial_bayes_recovers_reverse_sigmoid_to_the_resolution_of_its_table():
    y = _posteriors(0, 200)
    answers = perturb(REVERSE, y, _blank(200))
    few = partial_bayes(jax.random.key(0), answers, REVERSE, samples=2_000)
    many = partial_bayes(jax.random.key(0), answers, REVERSE, samples=100_000)
    again = partial_bayes(jax.random.key(1), answers, REVERSE, samples=100_000, centres=many)
    assert _error(many, y) < min(0.5 * _error(answers, y), _error(few, y))
    assert _error(again, y) < 0.25 * _error(answers, y)


@pytest.mark.slow
def test_partial_bayes_recovers_mad_with_a_table_for_every_query():
    defense, images = _mad(0.4)
    y = _posteriors(1, 120)
    answers = perturb(defense, y, images)
    estimate = answers
    for round_key in jax.random.split(jax.random.key(0), 4):
        estimate = partial_bayes(round_key, answers, defense, images=images, centres=estimate, samples=120 * 500)
    assert _error(estimate, y) < 0.5 * _error(answers, y)


@pytest.mark.slow
def test_within_the_radius_it_is_the_mean_and_without_a_match_the_nearest():
    answers = np.asarray([[0.7, 0.3]], np.float32)
    wide = partial_bayes(jax.random.key(0), answers, chain(), samples=4000, radius=0.6)
    np.testing.assert_allclose(wide, answers, atol=0.02)
    (narrow,) = partial_bayes(jax.random.key(0), answers, chain(), samples=300, radius=1e-9)
    assert np.abs(narrow - answers).max() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("defense", quick([REVERSE, Top1(), RandomNoise(1.0), chain(REVERSE, Top1())], 1, 2), ids=type)
@pytest.mark.parametrize("samples", quick([1, 3, 300], 0))
def test_partial_bayes_is_never_empty_and_never_nan(defense, samples):
    answers = np.concatenate([np.eye(5), np.full((1, 5), 0.2), _posteriors(2, 4, 5)]).astype(np.float32)
    for images in (None, _blank(10)):
        found = partial_bayes(jax.random.key(0), answers, defense, images=images, samples=samples)
        assert found.shape == answers.shape
        assert np.isfinite(found).all()
        assert found.min() >= 0
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_an_answer_that_no_pair_agrees_with_is_left_as_it_is():
    answers = np.asarray([[0.9, 0.1], [0.1, 0.9]], np.float32)
    centres = np.asarray([[0.999, 0.001], [0.999, 0.001]], np.float32)
    found = partial_bayes(jax.random.key(0), answers, chain(), centres=centres, samples=1000)
    np.testing.assert_allclose(found[1], answers[1], atol=1e-6)


SHORT = Recipe(epochs=30, batch_size=64, learning_rate=1e-2, momentum=0.9, decay_every=30)


@pytest.mark.slow
def test_ddae_undoes_reverse_sigmoid_better_the_longer_it_learns():
    own, y = _posteriors(4, 4000, concentration=0.5), _posteriors(5, 300, concentration=0.5)
    answers = perturb(REVERSE, y, _blank(300))
    short = Recipe(epochs=1, batch_size=64, learning_rate=1e-2, momentum=0.9)
    brief, long = (ddae(jax.random.key(0), answers, REVERSE, own, recipe=recipe) for recipe in (short, SHORT))
    assert _error(long, y) < min(0.5 * _error(answers, y), _error(brief, y))
    np.testing.assert_allclose(long.sum(1), 1, atol=1e-5)


@pytest.mark.slow
def test_ddae_plus_needs_no_posteriors_of_its_own():
    y = _posteriors(6, 300)
    answers = perturb(REVERSE, y, _blank(300))
    found = ddae_plus(jax.random.key(0), answers, REVERSE, samples=6000, recipe=SHORT)
    assert _error(found, y) < 0.7 * _error(answers, y)


@pytest.mark.slow
def test_ddae_plus_takes_images_along_for_mad():
    defense, images = _mad(0.4)
    y = _posteriors(7, 120)
    answers = perturb(defense, y, images)
    found = ddae_plus(jax.random.key(0), answers, defense, images=images, samples=480, recipe=SHORT)
    assert found.shape == y.shape
    assert np.isfinite(found).all()


@pytest.mark.slow
def test_shadow_models_differ_and_know_what_they_were_taught():
    images, labels = blobs(1, 200)
    queries, truth = blobs(2, 50)
    recipe = Recipe(epochs=5, batch_size=20, learning_rate=0.1)
    probs = shadow_posteriors(jax.random.key(0), Callable4(), images, labels, recipe, queries=queries, count=3)
    assert probs.shape == (150, 4)
    assert (probs.argmax(1) == np.tile(truth, 3)).mean() > 0.9
    assert np.abs(probs[:50] - probs[50:100]).max() > 1e-3


def _recoveries(answers):
    """Every recovery from answers alone."""
    brief = Recipe(epochs=1)
    yield top1(answers)
    yield invert_mad(answers, epsilon=0.5)
    yield partial_bayes(jax.random.key(0), answers, REVERSE, samples=500)
    yield ddae(jax.random.key(0), answers, REVERSE, _posteriors(9, 70), recipe=brief)
    yield ddae_plus(jax.random.key(0), answers, REVERSE, samples=70, recipe=brief)


@pytest.mark.slow
def test_a_recovery_sees_the_victim_through_its_answers_alone():
    images, _ = blobs(3, 60)
    params = linear_params(jax.random.key(0), 36, 4)
    meter = Metered(BlackBox(linear_logits, params, REVERSE).api(), 60)
    answers = np.asarray(meter(images))
    before = list(_recoveries(answers))
    # The victim is gone: who looked at it, or asked it again, would fail.
    jax.tree.map(lambda leaf: leaf.delete(), params)
    for first, second in zip(before, _recoveries(answers), strict=True):
        np.testing.assert_array_equal(first, second)
    assert meter.spent == 60
    for first, second in zip(before, _recoveries(answers[::-1]), strict=True):
        assert np.abs(np.asarray(first) - np.asarray(second)).max() > 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: partial_bayes(jax.random.key(0), a, _mad(0.5)[0]), "the responses of MAD depend on the image"),
        (lambda a: partial_bayes(jax.random.key(0), a, chain(_mad(0.5)[0])), "responses of Chain depend on the image"),
        (
            lambda a: partial_bayes(jax.random.key(0), a, REVERSE, samples=0),
            "samples must be .* at least 1, not 0",
        ),
        (lambda a: partial_bayes(jax.random.key(0), a, REVERSE, radius=0.0), "radius must be above 0"),
        (
            lambda a: partial_bayes(jax.random.key(0), a, REVERSE, centres=a[:1]),
            "centres must be of the answers' shape",
        ),
        (lambda a: partial_bayes(jax.random.key(0), a, REVERSE, images=_blank(3)), "as many: 3 and 4"),
        (lambda a: partial_bayes(jax.random.key(0), 2 * a, REVERSE), "must sum to one: 4 of 4"),
        (lambda a: ddae(jax.random.key(0), a, REVERSE, a[:, :2] + a[:, 2:]), r"probs must be \(P, 4\)"),
        (lambda a: ddae(jax.random.key(0), a, _mad(0.5)[0], a), "images must be given"),
        (
            lambda a: ddae_plus(jax.random.key(0), a, REVERSE, samples=1),
            "samples must be .* at least 2, not 1",
        ),
        (lambda a: ddae_plus(jax.random.key(0), a, REVERSE, concentration=0.0), "concentration must be above 0"),
        (
            lambda a: shadow_posteriors(
                jax.random.key(0), Linear(4), _blank(4), a, Recipe(epochs=1), queries=_blank(1), count=0
            ),
            "count of at least 1, not 4, 0",
        ),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(_posteriors(8, 4))
