"""ACRE: what queries tell of a linear classifier, and evasions within the factors of the paper."""

import itertools
import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from pp_jax.attacks.evasion import evade_boolean, evade_linear, linear_weights
from pp_jax.serving.blackbox import BudgetExhausted


class HalfSpace:
    """Positive where ⟨w, x⟩ > T."""

    def __init__(self, weights, threshold):
        self.weights, self.threshold, self.asked = np.asarray(weights, float), threshold, 0

    def __call__(self, points):
        self.asked += len(points)
        return points @ self.weights > self.threshold


def _case(seed, size):
    """A classifier, some of whose weights are zero, a positive and a negative point."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=size) * rng.choice([0, 0.2, 1, 5], size, p=[0.2, 0.2, 0.4, 0.2])
    if not weights.any():
        weights[0] = 1
    points = rng.normal(size=(2, size))
    scores = points @ weights
    if abs(scores[0] - scores[1]) < 1e-3:
        points[0] += weights
        scores = points @ weights
    base, negative = points[np.argsort(-scores)]
    return HalfSpace(weights, scores.min() + rng.uniform(0.1, 0.9) * np.ptp(scores)), base, negative


seeds, sizes = st.integers(0, 10**6), st.integers(1, 12)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(seeds, sizes, st.sampled_from([0.01, 0.1, 1.0]))
def test_the_weights_are_found_up_to_a_factor_and_queries_are_linear_in_their_number(seed, size, epsilon):
    victim, base, negative = _case(seed, size)
    found = linear_weights(victim, base, negative, epsilon=epsilon)
    true = victim.weights / abs(victim.weights[found.witness])
    np.testing.assert_array_equal(np.sign(found.weights)[np.abs(true) > 1e-3], np.sign(true)[np.abs(true) > 1e-3])
    seen = found.weights != 0
    shares = found.weights[seen] / true[seen]
    assert shares.max() <= 1 + 1e-6
    assert shares.min() >= (1 + epsilon) ** -2 - 1e-6
    assert abs(found.weights[found.witness]) == 1
    assert (np.abs(true[~seen]) <= 1.001e-3).all()
    rounds = math.ceil(math.log2(math.log(1e6 * (1 + epsilon) ** 2) / math.log1p(epsilon)))
    once = 3 + math.ceil(math.log2(size)) + math.ceil(math.log2(1 / epsilon))
    assert found.queries == victim.asked <= once + (size - 1) * (3 + rounds)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(seeds, sizes, st.sampled_from([0.02, 0.2]))
def test_a_linear_classifier_is_evaded_within_the_factor(seed, size, epsilon):
    victim, base, negative = _case(seed, size)
    costs = np.random.default_rng(seed + 1).uniform(0.5, 2, size)
    found = evade_linear(victim, base, negative, epsilon=epsilon, costs=costs)
    spent = victim.asked
    assert found.queries == spent
    assert not victim(found.point[None])[0]
    least = (victim.weights @ base - victim.threshold) / np.abs(victim.weights / costs).max()
    assert found.lower <= least * (1 + 1e-9)
    assert least <= found.cost * (1 + 1e-9)
    assert found.cost <= (1 + epsilon) * least * (1 + 1e-9)
    assert found.cost == pytest.approx(costs @ np.abs(found.point - base))


def test_a_weight_that_is_larger_than_the_ratio_is_found_as_well():
    victim = HalfSpace([1.0, 1e5, 1e-9], 0.0)
    found = linear_weights(victim, np.array([0.5, 0, 0]), np.array([-0.5, 0, 0]), ratio=100.0)
    assert found.witness == 0
    assert 1e5 / 1.1**2 - 1 <= found.weights[1] <= 1e5 + 1
    assert found.weights[2] == 0


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(seeds, st.integers(2, 8))
def test_boolean_features_are_evaded_at_no_more_than_twice_the_least_cost(seed, size):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=size).round(2)
    corners = np.array(list(itertools.product((0, 1), repeat=size)))
    scores = corners @ weights
    threshold = rng.uniform(scores.min(), scores.max())
    hypothesis.assume((scores > threshold).any() and (scores <= threshold).any())
    base, negative = (corners[rng.choice(np.flatnonzero(side))] for side in (scores > threshold, scores <= threshold))
    victim = HalfSpace(weights, threshold)
    found = evade_boolean(victim, base, negative)
    least = np.abs(corners[scores <= threshold] - base).sum(1).min()
    known = np.abs(negative - base).sum()
    assert found.queries == victim.asked <= 2 + (known + 1) * (known + known**2 * size / 2)
    assert not victim(found.point[None])[0]
    assert found.lower <= least <= found.cost <= 2 * least
    assert found.cost == np.abs(found.point - base).sum()


def test_a_budget_is_never_overspent():
    victim, base, negative = _case(0, 10)
    for evade in (linear_weights, evade_linear):
        victim.asked = 0
        with pytest.raises(BudgetExhausted):
            evade(victim, base, negative, epsilon=0.01, budget=25)
        assert victim.asked == 25


@pytest.mark.parametrize(
    ("evade", "changes", "message"),
    [
        (evade_linear, {"epsilon": 0.0}, "epsilon must be at least 1e-09 and at most 1, not 0"),
        (linear_weights, {"epsilon": 2.0}, "epsilon must be at least 1e-09 and at most 1, not 2"),
        (linear_weights, {"ratio": 1.0}, "ratio must be above 1"),
        (evade_linear, {"costs": [1.0]}, r"costs must be \(2,\)"),
        (evade_linear, {"base": [0.4, 0.0]}, "base is classified negative: must be positive"),
        (evade_boolean, {"negative": [0.0, 0.5]}, "must be zeros and ones: evade_linear takes continuous features"),
        (evade_boolean, {"negative": [1.0, 0.0]}, "negative is classified positive"),
    ],
)
def test_bad_inputs_are_one_line(evade, changes, message):
    given = {"base": [1.0, 1.0], "negative": [0.0, 0.0], **changes}
    with pytest.raises(ValueError, match=message) as caught:
        evade(lambda points: points[:, 0] > 0.5, given.pop("base"), given.pop("negative"), **given)
    assert "\n" not in str(caught.value)


def test_a_classifier_that_shows_not_to_be_linear_is_refused():
    ring = lambda points: np.abs(points[:, 0]) > 1  # noqa: E731
    with pytest.raises(ValueError, match="must be linear, and answer alike again"):
        evade_linear(ring, [1.1, 0.0], [-0.95, 0.0])


def test_answers_that_change_at_random_end_in_an_error_or_in_the_budget():
    rng = np.random.default_rng(0)
    for _ in range(20):
        with pytest.raises(ValueError, match=r"must be|remain"):
            linear_weights(lambda points: rng.random(len(points)) < 0.5, np.ones(40), np.zeros(40), budget=100)
