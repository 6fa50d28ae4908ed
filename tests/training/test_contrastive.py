"""SwiftThief's loss against NumPy, and the network that it wraps."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats

from grids import grid
from pp_jax import models, training
from pp_jax.training.contrastive import Siamese, soft_supervised
from pp_jax.training.predicting import predict
from support import Linear

SHAPE = (6, 6, 1)
RNG = np.random.default_rng(0)
IMAGES = RNG.random((8, *SHAPE)).astype(np.float32)
OTHERS = RNG.random((8, *SHAPE)).astype(np.float32)
LABELS = RNG.integers(0, 4, 8)


LOSS = jax.jit(soft_supervised)


def _by_hand(predictions, projections, responses):
    """The mean over pairs, one at a time, in float64."""
    total, pairs = 0.0, 0
    certain = 1 - scipy.stats.entropy(responses, axis=1) / np.log(responses.shape[1])
    for i in range(len(responses)):
        for j in range(len(responses)):
            alike = 1 - scipy.spatial.distance.cosine(responses[i], responses[j])
            weight = certain[i] * certain[j] * alike * (i != j)
            total -= weight * (1 - scipy.spatial.distance.cosine(predictions[i], projections[j]))
            pairs += weight != 0
    return total / max(pairs, 1)


@hypothesis.given(st.integers(0, 10_000))
@hypothesis.settings(max_examples=15)
def test_the_soft_supervised_loss_is_the_weighted_mean_of_cosines(seed):
    rng = np.random.default_rng(seed)
    predictions, projections = rng.normal(size=(2, 5, 6))
    responses = rng.dirichlet(np.full(4, 0.3), 5)
    found = LOSS(*(jnp.asarray(rows, jnp.float32) for rows in (predictions, projections, responses)))
    np.testing.assert_allclose(found, _by_hand(predictions, projections, responses), atol=1e-5)


def test_hard_labels_draw_together_the_images_of_a_class_alone():
    responses = np.eye(4)[[0, 0, 1, 2, 3]]
    rows = jnp.asarray(RNG.normal(size=(5, 6)), jnp.float32)
    cosine = 1 - scipy.spatial.distance.cosine(rows[0], rows[1])
    np.testing.assert_allclose(LOSS(rows, rows, jnp.asarray(responses, jnp.float32)), -cosine, rtol=1e-5)


def test_responses_that_say_nothing_count_for_nothing():
    rows = jnp.asarray(RNG.normal(size=(5, 6)), jnp.float32)
    assert abs(float(LOSS(rows, rows, jnp.full((5, 4), 0.25)))) < 1e-6


def test_the_wrapped_network_predicts_as_the_network_does():
    loss = training.Contrastive(width=8)
    assert isinstance(loss, training.WrappingLoss)
    wrapped = loss.around(grid())
    params = wrapped.init(jax.random.key(0), SHAPE)
    inner = wrapped.inner(params)
    np.testing.assert_array_equal(predict(wrapped, params, IMAGES), predict(grid(), inner, IMAGES))
    np.testing.assert_array_equal(wrapped.features(params, IMAGES[0]), grid().features(inner, IMAGES[0]))
    features, _ = grid().train_features(inner, IMAGES)
    np.testing.assert_allclose(features[0], grid().features(inner, IMAGES[0]), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("targets", [LABELS, np.eye(4, dtype=np.float32)[LABELS]])
def test_training_with_it_learns_and_draws_copies_together(targets):
    loss = training.Contrastive(augment=training.augmentation.random_flip, width=8)
    wrapped = loss.around(grid())
    history = []
    recipe = training.Recipe(25, 8, 0.05, 0.9)
    params = training.fit(
        jax.random.key(0), wrapped, IMAGES, targets, recipe, loss=loss, unlabelled=OTHERS,
        on_epoch=lambda state, value: history.append(value),
    )  # fmt: skip
    assert history[-1] < history[0] - 0.5
    z, _ = wrapped.embed(params, OTHERS)
    assert np.std(np.asarray(z), axis=0).mean() > 0.1  # not collapsed


def test_what_it_cannot_train_is_refused():
    with pytest.raises(ValueError, match="network must have train_features, as those of"):
        training.Contrastive().around(Linear(4))
    with pytest.raises(ValueError, match="width must be"):
        Siamese(models.mlp(4), 3)
    with pytest.raises(ValueError, match="unlabelled must be given to Contrastive"):
        training.Contrastive()(grid(), None, IMAGES, LABELS, None, None)
    with pytest.raises(ValueError, match=r"must be Contrastive\(…\).around\(network\), not Network"):
        training.Contrastive()(grid(), None, IMAGES, LABELS, OTHERS, None)
