"""The ensemble of diverse models: which of them answers, and that its loss makes them disagree."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pp_jax import BlackBox, perturb
from pp_jax.defenses import EDM, diverse
from pp_jax.defenses.diverse import DiversityLoss, Ensemble
from pp_jax.training import Recipe, fit, soft_cross_entropy
from support import Linear, blobs, bright_halves, linear_logits, linear_params, linear_posteriors

KEY = jax.random.key(0)
MODELS = 5


def _ensemble(key, *, count=MODELS, scale=1.0):
    """Linear networks with random weights, stacked."""
    return jax.jit(jax.vmap(lambda k: linear_params(k, 36, 4, scale=scale)))(jax.random.split(key, count))


@jax.jit
def _posteriors(models, images):
    """Of every model on every image, (B, N, K)."""
    return jax.vmap(lambda x: jax.nn.softmax(jax.vmap(linear_logits, (0, None))(models, x)))(images)


def test_each_image_is_answered_by_one_model_and_all_take_part():
    images, models = blobs(0, 200)[0], _ensemble(KEY)
    answers = np.asarray(perturb(EDM(linear_logits, models), np.full((200, 4), 0.25, np.float32), images, key=KEY))
    distance = np.abs(np.asarray(_posteriors(models, images)) - answers[:, None]).sum(-1)
    assert distance.min(1).max() < 1e-5
    counts = np.bincount(distance.argmin(1), minlength=MODELS)
    # 40 each on average, with a standard deviation of 5.7.
    assert (counts > 15).all()


def test_an_image_keeps_its_model_and_another_key_picks_anew():
    images, models = blobs(0, 100)[0], _ensemble(KEY)
    clean = np.full((100, 4), 0.25, np.float32)
    defense = EDM(linear_logits, models)
    answers = np.asarray(perturb(defense, clean, images, key=KEY))
    again = np.asarray(perturb(defense, clean, images[::-1], key=KEY))[::-1]
    np.testing.assert_allclose(again, answers, atol=1e-6)
    other = np.asarray(perturb(defense, clean, images, key=jax.random.key(1)))
    assert 0.6 < (np.abs(other - answers).sum(1) > 1e-3).mean() < 0.95


def test_coherence_of_known_posteriors():
    a, b, coherence = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], jax.jit(diverse.coherence)
    assert coherence(np.float32([a, b])) == 0
    np.testing.assert_allclose(coherence(np.float32([a, b, a])), 1, rtol=1e-6)
    np.testing.assert_allclose(coherence(np.float32([a, [0.5, 0.5, 0.0]])), np.sqrt(0.5), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(diverse.diversity_loss)(np.float32([a, b, a])), np.log(2 + np.e), rtol=1e-6)


def test_the_loss_lies_above_the_coherence_by_no_more_than_promised():
    posteriors = np.random.default_rng(0).dirichlet(np.ones(4), (50, MODELS)).astype(np.float32)
    losses, coherences = (jax.jit(jax.vmap(f))(posteriors) for f in (diverse.diversity_loss, diverse.coherence))
    excess = np.asarray(losses) - np.asarray(coherences)
    assert (excess >= 0).all()
    assert (excess <= np.log(MODELS * (MODELS - 1) / 2) + 1e-6).all()


@pytest.mark.slow
def test_training_with_the_loss_keeps_the_accuracy_and_makes_the_models_disagree_on_outliers():
    images, labels = blobs(1, 256)
    outliers = 1 - blobs(3, 256)[0]
    optimizer = optax.adam(0.05)

    def trained(weight):
        def loss(models):
            log_posteriors = jnp.log(_posteriors(models, images) + 1e-9)
            inside = -jnp.mean(log_posteriors[jnp.arange(len(labels)), :, labels])
            return inside + weight * jnp.mean(jax.vmap(diverse.diversity_loss)(_posteriors(models, outliers)))

        def step(carry, _):
            models, state = carry
            updates, state = optimizer.update(jax.grad(loss)(models), state)
            return (optax.apply_updates(models, updates), state), None

        # No more models than classes: otherwise two of them must agree.
        models = _ensemble(KEY, count=3, scale=0.1)
        return jax.jit(lambda m: jax.lax.scan(step, (m, optimizer.init(m)), length=150)[0][0])(models)

    fresh, truth = blobs(2, 256)
    strange = 1 - blobs(4, 256)[0]
    plain, taught = trained(0.0), trained(1.0)
    coherences = [float(jax.vmap(diverse.coherence)(_posteriors(m, strange)).mean()) for m in (plain, taught)]
    assert coherences[1] < coherences[0] - 0.02
    assert (np.asarray(_posteriors(taught, fresh)).argmax(-1) == truth[:, None]).mean() > 0.9


@pytest.mark.slow
def test_a_fitted_ensemble_agrees_at_home_and_differs_abroad():
    images, labels, outliers = bright_halves()
    recipe = Recipe(15, batch_size=32, learning_rate=0.3)
    targets = np.eye(2, dtype=np.float32)[labels]
    losses = {}
    for weight in (0.0, 2.0):
        loss = DiversityLoss(weight)
        models = fit(KEY, Ensemble(Linear(2), 3), images, targets, recipe, loss=loss, unlabelled=outliers)
        assert {leaf.shape[0] for leaf in jax.tree.leaves(models)} == {3}
        abroad, home = (jax.vmap(linear_posteriors, (0, None))(models, x) for x in (outliers, images))
        assert (home.argmax(2) == labels[None]).all()
        losses[weight] = float(jax.vmap(diverse.diversity_loss, 1)(abroad).mean())
        victim = jax.tree.map(lambda leaf: leaf[0], models)
        assert BlackBox(linear_logits, victim, EDM(linear_logits, models), KEY)(images)[0].shape == (256, 2)
    assert losses[2.0] < losses[0.0]


def test_the_loss_of_an_ensemble_is_the_sum_of_its_members_and_their_coherence():
    images, labels = blobs(1, 8)
    outliers = 1 - blobs(3, 8)[0]
    ensemble = Ensemble(Linear(4), 3)
    assert ensemble.vmapped is ensemble
    models = ensemble.init(KEY, (6, 6, 1))
    targets = jnp.asarray(labels)
    members = [jax.tree.map(lambda leaf, i=i: leaf[i], models) for i in range(3)]
    inside = sum(float(soft_cross_entropy(Linear(4).train(p, images)[0], targets)) for p in members)
    apart = float(jax.vmap(diverse.diversity_loss)(_posteriors(models, outliers)).mean())
    value, _ = DiversityLoss(0.5)(ensemble, models, images, targets, outliers, KEY)
    np.testing.assert_allclose(value, inside + 0.5 * apart, rtol=1e-5)


def test_what_does_not_fit_is_refused():
    clean, images = np.full((2, 4), 0.25, np.float32), blobs(0, 2)[0]
    with pytest.raises(ValueError, match="EDM draws random numbers: it needs key"):
        perturb(EDM(linear_logits, _ensemble(KEY)), clean, images)
    with pytest.raises(ValueError, match="leaves must share a leading axis N"):
        perturb(EDM(linear_logits, linear_params(KEY, 36, 4)), clean, images, key=KEY)
    with pytest.raises(ValueError, match="network knows 4 classes, the victim's posterior has 3"):
        perturb(EDM(linear_logits, _ensemble(KEY)), np.full((2, 3), 1 / 3, np.float32), images, key=KEY)
    with pytest.raises(ValueError, match="must be \\(N, K\\) with N ≥ 2, not \\(1, 4\\)"):
        diverse.coherence(jnp.ones((1, 4)))
    with pytest.raises(ValueError, match="members must be at least 2, not 1"):
        Ensemble(Linear(4), 1)
    with pytest.raises(ValueError, match="weight must be at least 0 and finite, not -1"):
        DiversityLoss(-1.0)
    with pytest.raises(ValueError, match="unlabelled must be given to DiversityLoss, not None"):
        DiversityLoss()(Ensemble(Linear(4), 2), None, images, clean, None, KEY)
