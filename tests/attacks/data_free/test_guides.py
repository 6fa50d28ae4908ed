"""Guides: the zeroth-order gradient points where the true one does, and each guide leads where it says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pp_jax import models
from pp_jax.attacks.data_free import Adversarial, Disagreement, Divergence, LogitDistance, Synthesis, ZerothOrder
from pp_jax.attacks.data_free.guides import Studio
from pp_jax.attacks.data_free.shapes import random_shapes
from pp_jax.attacks.data_free.through_clones import balance
from pp_jax.models.generator import pixels

SHAPE = (4, 4, 1)
KEY = jax.random.key(0)
GENERATOR = models.Generator(latent=8, width=2)
STUDIO = Studio(GENERATOR, optax.sgd(0.1), SHAPE, 1, 4)
WEIGHTS = jax.random.normal(jax.random.key(1), (2, 16, 3))


def _logits(images, which=slice(0, 1)):
    """Logits (M, B, 3) of linear clones."""
    return jnp.stack([images.reshape(len(images), -1) @ weights for weights in WEIGHTS[which]])


def _start(guide, studio=STUDIO):
    """The generator before the first round, in one program."""
    return jax.jit(lambda key: guide.start(key, studio))(KEY)


def _victim(images):
    return jax.nn.softmax(_logits(images, slice(1, 2))[0])


def _cosine(one, other):
    one, other = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (one, other))
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


@pytest.mark.parametrize(
    "difference", [Divergence(), pytest.param(LogitDistance(), marks=pytest.mark.slow)], ids=["KL", "L1"]
)
def test_the_zeroth_order_step_goes_up_the_true_gradient_of_a_differentiable_victim(difference):
    guide = ZerothOrder(difference, directions=256, step=1e-2)
    carry = _start(guide)
    images = jax.jit(lambda carry: guide.compose(KEY, STUDIO, carry, _logits))(carry)
    moved = jax.jit(lambda *given: guide.learn(KEY, STUDIO, given[0], _logits, *given[1:]))
    after = moved(carry, images, _victim(images))
    change = jax.tree.map(lambda new, old: new - old, after.params, carry.params)
    noise = STUDIO.noise(jax.random.split(KEY)[0])[-1]

    def disagreement(params):
        made = pixels(STUDIO.activations(params, noise))
        return jnp.mean(difference(_logits(made)[0], _victim(made)))

    assert _cosine(change, jax.jit(jax.grad(disagreement))(carry.params)) > 0.95


def test_the_estimate_is_that_of_the_formula():
    rng, m, batch = np.random.default_rng(0), 3, 2
    base, moved = rng.random(batch).astype(np.float32), rng.random((m, batch)).astype(np.float32)
    u = rng.normal(size=(m, batch, *SHAPE)).astype(np.float32)
    expected = np.zeros((batch, *SHAPE))
    for i in range(m):
        for b in range(batch):
            expected[b] += 16 / m * (moved[i, b] - base[b]) / 0.5 * u[i, b]
    guide = ZerothOrder(Divergence(), directions=m, step=0.5)
    np.testing.assert_allclose(guide.estimated(jnp.array(base), jnp.array(moved), jnp.array(u)), expected, rtol=1e-4)


@pytest.mark.slow
def test_queries_of_a_zeroth_order_round_are_the_last_batch_moved_by_unit_vectors():
    guide = ZerothOrder(Divergence(), directions=2, step=0.25)
    carry = _start(guide)
    images = jax.jit(lambda carry: guide.compose(KEY, STUDIO, carry, _logits))(carry)
    assert images.shape == (4 * 3, *SHAPE)
    u = guide.unit_vectors(jax.random.split(KEY)[1], STUDIO)
    np.testing.assert_allclose(np.linalg.norm(u.reshape(2, 4, -1), axis=-1), 1, rtol=1e-5)
    h = STUDIO.activations(carry.params, STUDIO.noise(jax.random.split(KEY)[0])[-1])
    np.testing.assert_allclose(images[:4], pixels(h), atol=1e-6)
    np.testing.assert_allclose(images[4:], pixels(h[None] + 0.25 * u).reshape(8, *SHAPE), atol=1e-6)


def test_disagreement_is_that_of_numpy_and_least_where_clones_agree():
    logits = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mean = p.mean((0, 1))
    expected = 0.2 * (mean * np.log(mean)).sum() - p.std(0, ddof=1).mean()
    loss = jax.jit(jax.value_and_grad(Disagreement(0.2).loss))
    apart, alike = loss(logits), loss(logits[[0, 0]])
    np.testing.assert_allclose(apart[0], expected, rtol=1e-4)
    assert apart[0] < alike[0]
    assert np.isfinite(alike[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("guide", [Disagreement(0.0), Adversarial(5.0), Synthesis(20)], ids=lambda g: type(g).__name__)
def test_a_guide_improves_what_it_aims_at(guide):
    logits = lambda images: _logits(images, slice(0, guide.clones))  # noqa: E731
    studio = STUDIO._replace(optimizer=optax.adam(0.02), batches=2, size=6)

    @jax.jit
    def run(carry):
        def round_(carry, key):
            carry = guide.learn(key, studio, carry, logits, None, None)
            return carry, None

        return jax.lax.scan(round_, carry, jax.random.split(KEY, 40))[0]

    start = _start(guide, studio)
    compose = jax.jit(lambda carry: guide.compose(KEY, studio, carry, logits))
    first, after = (compose(carry) for carry in (start, run(start)))
    if isinstance(guide, Synthesis):
        first = jax.random.uniform(KEY, first.shape)
        assert guide.loss(logits(after[:6])) < guide.loss(logits(first[:6])) - 0.1
    elif isinstance(guide, Adversarial):
        made = slice(0, None, 2)  # the generator's
        assert balance(jax.nn.softmax(logits(after[made]))) < balance(jax.nn.softmax(logits(first[made]))) - 0.02
    else:
        assert guide.loss(logits(after)) < guide.loss(logits(first)) - 0.02


def test_random_shapes_are_images_that_differ_and_have_flat_parts():
    images = np.asarray(random_shapes(KEY, (8, 12, 3), 20))
    assert images.shape == (20, 8, 12, 3)
    assert images.min() >= 0
    assert images.max() <= 1
    assert len(np.unique(images.reshape(20, -1), axis=0)) == 20
    assert all(3 <= len(np.unique(image.reshape(-1, 3), axis=0)) <= 13 for image in images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ZerothOrder(Divergence(), directions=0), "directions must be a whole number of at least 1, not 0"),
        (lambda: ZerothOrder(Divergence(), 1, step=0.0), "step must be above 0, not 0"),
        (lambda: Disagreement(-1.0), "diversity must be at least 0, not -1"),
        (lambda: Adversarial(rate=0.0), "rate must be above 0, not 0"),
        (lambda: Synthesis(0), "rounds must be a whole number of at least 1, not 0"),
        (lambda: LogitDistance(0.0), "floor must be above 0 and below 1, not 0"),
        (lambda: models.Generator(width=0), "width must be a whole number of at least 1, not 0"),
        (lambda: models.Generator(last_norm="no"), "last_norm must be 'learned', 'fixed' or 'none', not 'no'"),
        (lambda: GENERATOR.init(KEY, (6, 8, 1)), r"image_shape=\(6, 8, 1\) must be .* sides that 4 divides"),
        (lambda: GENERATOR.init(0, SHAPE), "key is 0: must be a random key"),
        (lambda: models.Discriminator(0), "width must be a whole number of at least 1, not 0"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
