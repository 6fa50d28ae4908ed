"""Knockoff and its driver: the stolen model gains with the budget, MAD takes that away, and no query is uncounted."""

import functools

import jax
import numpy as np
import pytest

from pp_jax import MAD, BlackBox, metrics
from pp_jax.attacks import Knockoff, collect
from pp_jax.training import Recipe, fit
from support import Linear, blobs, linear_logits

RECIPE = Recipe(epochs=10, batch_size=32, learning_rate=0.1)


@functools.cache
def _victim():
    """A linear victim of four noisy classes."""
    images, labels = blobs(1, 800)
    return fit(jax.random.key(0), Linear(4), images, labels, RECIPE)


def _steal(defense=None, *, budget=400):
    """Test accuracy of a model trained on stolen answers, with one number of steps whatever the budget."""
    box = BlackBox(linear_logits, _victim(), *([] if defense is None else [defense]))
    stolen = collect(jax.random.key(1), Knockoff(batch_size=100), blobs(2, 400)[0], box.api(), budget=budget)
    params = fit(jax.random.key(2), Linear(4), stolen.images, stolen.answers, RECIPE)
    images, labels = blobs(3, 500)
    return metrics.accuracy(metrics.predict(linear_logits, params, images), labels)


def test_the_stolen_model_gains_accuracy_with_budget_and_mad_lowers_it():
    images, labels = blobs(3, 500)
    assert metrics.accuracy(metrics.predict(linear_logits, _victim(), images), labels) > 0.95
    surrogate = Linear(4).init(jax.random.key(9), (6, 6, 1))
    few, many = _steal(budget=4), _steal(budget=400)
    defended = _steal(MAD(linear_logits, surrogate, 1.5))
    assert many > 0.9
    assert few < many - 0.1
    assert defended < many - 0.2


def _pool(count=50):
    """Images that are their own number."""
    return np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1) / count


@pytest.mark.parametrize("budget", [1, 7, 20, 50])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_exactly_the_budget_is_asked_and_nothing_beyond(budget, batch_size):
    seen = []

    def api(images):
        seen.append(images)
        return np.tile([0.5, 0.5], (len(images), 1))

    progress = []
    pool = _pool()
    stolen = collect(jax.random.key(0), Knockoff(batch_size), pool, api, budget=budget, progress=progress.append)
    assert stolen.queries == len(stolen.images) == sum(map(len, seen)) == sum(progress) == budget
    assert len(np.unique(stolen.images)) == budget
    assert np.isin(stolen.images, pool).all()


def test_the_same_seed_gives_the_same_result():
    first, again, other = (
        collect(jax.random.key(seed), Knockoff(7), _pool(), lambda x: x.reshape(len(x), 1).repeat(2, axis=1), budget=20)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.images != other.images).any()


def _never(images):
    raise AssertionError("something was asked")


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (0, "whole number of at least 1, not 0"),
        (-1, "not -1"),
        (51, "good for the budget of 51 queries, but it holds 50 images"),
    ],
)
def test_a_bad_budget_is_refused_before_anything_is_asked(budget, message):
    with pytest.raises(ValueError, match=message):
        collect(jax.random.key(0), Knockoff(), _pool(), _never, budget=budget)


def test_an_api_that_does_not_answer_every_image_is_refused():
    with pytest.raises(ValueError, match="7 asked, 6 answered"):
        collect(jax.random.key(0), Knockoff(7), _pool(), lambda x: x[:-1].reshape(-1, 1), budget=20)


def test_an_attack_without_questions_is_refused():
    class Silent(Knockoff):
        def ask(self, state):
            return state.pool[:0]

    with pytest.raises(ValueError, match="ran out of questions after 0 of 5 queries"):
        collect(jax.random.key(0), Silent(), _pool(), _never, budget=5)


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, not 0"):
        Knockoff(0)
