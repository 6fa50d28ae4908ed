"""FGSM and PGD: as published, as another library has them, within their ball, and to the purpose."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smallworld as small
from pp_jax import metrics
from pp_jax.attacks.evasion import FGSM, PGD, L1Ball, L2Ball, LInfBall, craft
from support import Counted, golden, linear_logits, linear_params

KEY = jax.random.key(0)
BALLS = {"linf": (LInfBall(), 0.1), "l2": (L2Ball(), 0.6), "l1": (L1Ball(), 2.0)}
SIDE, K = 5, 4


def _case(count=12, scale=1.0):
    """A linear model, and images of which some pixels are at the edges of [0, 1]."""
    params = linear_params(KEY, SIDE * SIDE, K, scale=scale)
    rng = np.random.default_rng(0)
    images = np.clip(rng.uniform(-0.2, 1.2, (count, SIDE, SIDE, 1)), 0, 1).astype(np.float32)
    return params, images, metrics.predict(linear_logits, params, images).argmax(1)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("ball", ["linf", "l2"])
def test_examples_are_those_of_the_adversarial_robustness_toolbox(ball, targeted):
    known, (norm, radius) = golden("evasion_art"), BALLS[ball]
    params = {"params": {name: known[name].astype(np.float32) for name in ("kernel", "bias")}}
    labels = known["targets" if targeted else "labels"]
    name = f"{ball}_{'targeted' if targeted else 'untargeted'}"
    rules = {
        "fgsm": FGSM(radius, targeted=targeted, ball=norm),
        "pgd": PGD(radius, radius / 4, steps=7, random_start=False, targeted=targeted, ball=norm),
    }
    for rule, attack in rules.items():
        found = craft(KEY, attack, linear_logits, params, known["images"], labels)
        np.testing.assert_allclose(found, known[f"{rule}_{name}"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("ball", BALLS)
def test_every_example_stays_in_ball_and_box(ball):
    (norm, radius), (params, images, labels) = BALLS[ball], _case()
    for attack in (FGSM(radius, ball=norm), PGD(radius, steps=5, restarts=3, ball=norm)):
        found = craft(KEY, attack, linear_logits, params, images, labels)
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 1
        assert max(float(norm.norm(jnp.asarray(change))) for change in found - images) <= radius + 1e-5
        assert np.abs(found - images).max() > 0


@pytest.mark.parametrize("ball", BALLS)
def test_a_ball_draws_within_itself_and_projects_onto_the_nearest_point(ball):
    norm, radius = BALLS[ball]
    start = jnp.full((SIDE, SIDE, 1), 0.5)
    drawn = jax.vmap(lambda key: norm.draw(key, start, radius))(jax.random.split(KEY, 50))
    lengths = jax.vmap(norm.norm)(drawn - start[None])
    assert float(lengths.max()) <= radius + 1e-6
    assert float(lengths.std()) > 0
    far = start + 3 * radius * jax.random.normal(jax.random.key(1), start.shape)
    near = norm.project(far, start, radius)
    assert float(norm.norm(near - start)) == pytest.approx(radius, rel=1e-5)
    # Of a convex set, ⟨far − near, point − near⟩ ≤ 0 for all its points tells the projection from any other point.
    assert float(jnp.max(jnp.sum((far - near)[None] * (drawn - near[None]), axis=(1, 2, 3)))) <= 1e-4
    np.testing.assert_array_equal(norm.project(drawn[0], start, 2 * radius), drawn[0])
    assert float(norm.norm(norm.steepest(far))) == pytest.approx(1, rel=1e-6)
    assert not norm.steepest(jnp.zeros((2, 2, 1))).any()


@pytest.mark.parametrize("ball", BALLS)
def test_one_step_takes_the_dual_norm_of_the_gradient_from_the_margin_of_two_classes(ball):
    norm, _ = BALLS[ball]
    params = linear_params(KEY, SIDE * SIDE, 2)
    image = np.full((1, SIDE, SIDE, 1), 0.5, np.float32)
    kernel = np.asarray(params["params"]["kernel"])
    difference = kernel[:, 1] - kernel[:, 0]
    dual = {"linf": np.abs(difference).sum(), "l2": np.linalg.norm(difference), "l1": np.abs(difference).max()}[ball]
    found = craft(KEY, FGSM(0.05, ball=norm), linear_logits, params, image, [1])
    assert (image - found).ravel() @ difference == pytest.approx(0.05 * dual, rel=1e-4)


def test_a_certain_network_does_not_hide_its_gradient():
    params, images, labels = _case(scale=1e3)
    assert (metrics.predict(linear_logits, params, images).max(1) == 1).all()
    assert (craft(KEY, FGSM(0.1), linear_logits, params, images, labels) != images).any((1, 2, 3)).all()


def test_uint8_images_are_moved_in_units_of_their_range():
    params, images, labels = _case()
    pixels = np.round(255 * images).astype(np.uint8)
    found = craft(KEY, FGSM(0.1), linear_logits, params, pixels, labels)
    known = craft(KEY, FGSM(0.1), linear_logits, params, pixels.astype(np.float32) / 255, labels)
    np.testing.assert_allclose(found, known, rtol=0, atol=1e-6)


def test_the_batch_size_changes_nothing_and_another_radius_traces_nothing():
    params, images, labels = _case()
    logits, attack = Counted(linear_logits), PGD(0.1, steps=3)
    whole = craft(KEY, attack, logits, params, images, labels, batch_size=5)
    traces = logits.traces
    craft(KEY, dataclasses.replace(attack, radius=0.2), logits, params, images[:7], labels[:7], batch_size=5)
    assert logits.traces - traces <= 1  # once, by shape, to know the classes
    np.testing.assert_array_equal(craft(KEY, attack, linear_logits, params, images, labels, batch_size=12), whole)
    assert (craft(jax.random.key(1), attack, linear_logits, params, images, labels, batch_size=5) != whole).any()


@pytest.fixture(scope="module")
def victim():
    """The stripes' victim, and its accuracy under a rule."""
    found, (images, labels) = small.victim(), (small.test_images().images, small.test_images().labels)

    def after(attack, labels_of=lambda labels: labels):
        changed = craft(KEY, attack, found.network, found.params, images, labels_of(labels))
        return metrics.accuracy(metrics.predict(found.network, found.params, changed), labels_of(labels))

    return after


def test_evasion_defeats_a_network_that_noise_of_its_size_does_not(victim):
    assert victim(PGD(0.3, 1e-6, steps=1)) > 0.8  # a random point of the ball
    fgsm, pgd = victim(FGSM(0.3)), victim(PGD(0.3, steps=10))
    assert pgd <= fgsm < 0.2
    assert victim(PGD(0.3, steps=10, targeted=True), lambda labels: (labels + 1) % small.CLASSES) > 0.9


def test_of_several_restarts_the_best_is_returned():
    found, test = small.victim(), small.test_images()

    def margins(changed):
        logits = np.array(jax.vmap(found.network, (None, 0))(found.params, changed))
        own = np.take_along_axis(logits, test.labels[:32, None], 1)[:, 0]
        np.put_along_axis(logits, test.labels[:32, None], -np.inf, 1)
        return own - logits.max(1)

    one, many = (
        margins(
            craft(KEY, PGD(0.1, steps=2, restarts=n), found.network, found.params, test.images[:32], test.labels[:32])
        )
        for n in (1, 8)
    )
    assert many.mean() < one.mean()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FGSM(0.0), "radius must be above 0, not 0"),
        (lambda: PGD(-1.0), "radius must be above 0, not -1"),
        (lambda: PGD(step_size=0.0), "step_size must be above 0, not 0"),
        (lambda: PGD(steps=0), "steps must be a whole number of at least 1, not 0"),
        (lambda: PGD(restarts=0), "restarts must be a whole number of at least 1, not 0"),
        (lambda: PGD(restarts=2, random_start=False), "restarts is 2: must be 1 without random_start"),
        (lambda: _craft(attack=FGSM), "attack is FGSM: must be an instance"),
        (lambda: _craft(attack=lambda *_: None), "attack is function: must be an instance"),
        (lambda: _craft(key=0), "key is 0: must be a random key"),
        (lambda: _craft(labels=np.full(12, 4)), "labels are from 4 to 4: must be from 0 to 3"),
        (lambda: _craft(labels=np.zeros(3, int)), r"labels have shape \(3,\): must be class indices of shape \(12,\)"),
        (lambda: _craft(images=2 * _case()[1]), r"images must be in \[0, 1\]"),
        (lambda: _craft(batch_size=0), "batch_size must be"),
    ],
)
def test_bad_settings_and_inputs_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def _craft(key=KEY, attack=None, images=None, labels=None, **options):
    params, known, classes = _case()
    images, labels = (given if given is not None else own for given, own in ((images, known), (labels, classes)))
    return craft(key, attack or FGSM(0.1), linear_logits, params, images, labels, **options)
