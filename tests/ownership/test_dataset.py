"""Dataset inference claims who overfits the same images, nobody else, and its distances are right where known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import models, training
from pp_jax.ownership import BlindWalk, DatasetInference, MinimalDistances, Model
from pp_jax.training.predicting import predict
from support import linear_logits

NETWORK = models.mlp(4, hidden=(64,))
RECIPE = training.Recipe(60, batch_size=32, learning_rate=0.1, momentum=0.9)
WHITE = MinimalDistances(20, l1=2.0, l2=0.2, linf=0.03, entries=8)
BLACK = BlindWalk(20, draws=4, laplace=0.1, normal=0.1, uniform=0.1)


@functools.cache
def _hard(seed, count):
    """Noise with random labels, which can only be learned by heart."""
    rng = np.random.default_rng(seed)
    return rng.random((count, 6, 6, 1), np.float32), rng.integers(0, 4, count)


@functools.cache
def _model(seed, data):
    """A model that learned some images by heart."""
    return Model(NETWORK, training.fit(jax.random.key(seed), NETWORK, *_hard(data, 120), RECIPE))


@functools.cache
def _copy():
    """A copy of the first model, trained on its responses to its own training images and to others."""
    images = np.concatenate([_hard(0, 120)[0], _hard(7, 120)[0]])
    answers = predict(NETWORK, _model(1, 0).params, images)
    return Model(NETWORK, training.fit(jax.random.key(2), NETWORK, images, answers, RECIPE))


@functools.cache
def _mark(probe):
    """Half of the images for the regression, half for claims."""
    return DatasetInference.fitted(_model(1, 0), _hard(0, 120)[0], _hard(9, 120)[0], probe, classes=4, samples=60)


@pytest.mark.slow
def test_the_victim_and_its_copy_are_claimed_and_independent_models_are_not():
    mark = _mark(WHITE)
    assert mark.verify(_model(1, 0)).holds(0.01)
    assert mark.verify(_copy()).holds(0.05)
    assert not mark.verify(_model(3, 5)).holds(0.05)


@pytest.mark.slow
def test_walks_claim_the_victim_with_less_confidence():
    mark = _mark(BLACK)
    assert mark.verify(_model(1, 0)).holds(0.05)
    assert not mark.verify(_model(3, 5)).holds(0.01)


def test_a_model_of_the_same_images_is_claimed_too():
    assert _mark(WHITE).verify(_model(4, 0)).holds(0.05)


def test_distances_to_a_linear_boundary_are_margins_by_dual_norms():
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (16, 3)).astype(np.float32)
    params = {"params": {"kernel": jnp.asarray(weights), "bias": jnp.zeros(3)}}
    images = rng.uniform(0.45, 0.55, (6, 4, 4, 1)).astype(np.float32)
    # Two classes, so that no third one is on the way.
    pair = {"params": {"kernel": params["params"]["kernel"][:, :2], "bias": jnp.zeros(2)}}
    normal = weights[:, 0] - weights[:, 1]
    margins = np.abs((images.reshape(6, -1) @ normal).astype(np.float64))
    sizes = {"l1": 0.004, "l2": 0.002, "linf": 0.0005}
    found = MinimalDistances(400, entries=1, **sizes)(Model(linear_logits, pair), images, 2).reshape(6, 3, 2)
    duals = [np.abs(normal).max(), np.linalg.norm(normal), np.abs(normal).sum()]
    inside = margins / duals[0] < 0.4  # one pixel must not run out
    assert inside.any()
    assert (found[:, :, 0] == 0).all()
    for norm, dual in enumerate(duals):
        rows = inside if norm == 0 else slice(None)
        np.testing.assert_allclose(found[rows, norm, 1], (margins / dual)[rows], atol=1.5 * list(sizes.values())[norm])


def test_a_walk_ends_where_the_label_changes_and_is_the_same_for_all():
    images = np.full((2, 2, 2, 1), 0.5, np.float32)
    walk = BlindWalk(10, draws=3, laplace=0.02, normal=0.02, uniform=0.02)

    def bright(asked):
        """The label changes as soon as the mean brightness has moved by 0.02."""
        moved = np.abs(asked.mean((1, 2, 3)) - 0.5) > 0.02
        return np.eye(2, dtype=np.float32)[moved.astype(int)]

    found = walk(bright, images, 2)
    assert found.shape == (2, 9)
    np.testing.assert_array_equal(found[0], found[1])
    never = walk(lambda asked: np.tile(np.float32([1, 0]), (len(asked), 1)), images, 2)
    assert (found <= never).all()
    assert (found < never).any()


def _unasked(images):
    raise AssertionError("queries were spent")


IMAGES = np.zeros((30, 4, 4, 1), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: WHITE(_unasked, IMAGES, 4),
            r"must be Model\(network, params\), not _unasked; BlindWalk needs answers",
        ),
        (lambda: BLACK(lambda x: np.zeros(len(x), int), IMAGES, 4), "answers with labels"),
        (lambda: BLACK(lambda x: np.full((len(x), 3), 1 / 3), IMAGES, 4), "has 3 classes: must be 4"),
        (
            lambda: DatasetInference.fitted(_unasked, IMAGES, IMAGES, BLACK, classes=4, samples=9),
            "30 images of a kind with samples=9: must be at least 10 samples",
        ),
        (
            lambda: DatasetInference.fitted(_unasked, IMAGES, IMAGES[:20], BLACK, classes=4, samples=20),
            "20 images of a kind with samples=20",
        ),
        (
            lambda: DatasetInference(IMAGES[:5], IMAGES, BLACK, None, None, None, 4).verify(_unasked),
            "5 samples of a kind give: .* give at least 10",
        ),
        (lambda: MinimalDistances(0), "steps must be a whole number of at least 1"),
        (lambda: MinimalDistances(l2=0.0), "l2 must be above 0"),
        (lambda: BlindWalk(normal=-1.0), "normal must be above 0"),
    ],
)
def test_what_cannot_be_inferred_is_refused_before_queries_are_spent(call, message):
    with pytest.raises(ValueError, match=message):
        call()
