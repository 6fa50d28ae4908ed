"""MultiLineSearch: the bounds of the paper on cost and queries, on bodies whose least cost is known."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from pp_jax.attacks.evasion import multi_line_search
from pp_jax.attacks.evasion.membership import bisections
from pp_jax.serving.blackbox import BudgetExhausted


class Polytope:
    """Positive where W x < T: convex, and its least weighted L1 cost is min_j gap_j / max_d |W_jd| / c_d."""

    def __init__(self, seed, size, faces):
        rng = np.random.default_rng(seed)
        self.normals = rng.normal(size=(faces, size)) * rng.choice([0.1, 1, 10], (faces, size))
        self.base = rng.normal(size=size)
        self.limits = self.normals @ self.base + rng.uniform(0.01, 5, faces)
        self.costs = rng.uniform(0.5, 2, size)
        outwards = self.normals[0] + 0.1 * rng.normal(size=size) * np.abs(self.normals[0]).min()
        step = (self.limits - self.normals @ self.base)[0] / (self.normals[0] @ outwards)
        self.negative = self.base + 1.7 * step * outwards
        self.asked = 0

    def __call__(self, points):
        self.asked += len(points)
        return (points @ self.normals.T < self.limits).all(1)

    @property
    def least(self):
        """MAC."""
        gaps = self.limits - self.normals @ self.base
        return (gaps / np.abs(self.normals / self.costs).max(1)).min()

    def cost(self, point):
        return self.costs @ np.abs(point - self.base)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 6), st.sampled_from([0.01, 0.1, 1.0]),
    st.sampled_from([1, 3, None, 50]),
)  # fmt: skip
def test_cost_and_queries_are_within_the_bounds_of_the_theorem(seed, size, faces, epsilon, steps):
    body = Polytope(seed, size, faces)
    lower = 1e-3 * body.least
    found = multi_line_search(
        body, body.base, body.negative, lower=lower, epsilon=epsilon, costs=body.costs, steps=steps
    )
    assert not body(found.point[None])[0]
    assert found.queries == body.asked - 1
    assert found.cost == pytest.approx(body.cost(found.point))
    slack = 1 + 1e-9
    assert found.lower <= body.least * slack
    assert body.least <= found.cost * slack
    assert found.cost <= (1 + epsilon) * found.lower * slack
    rounds = bisections(lower, body.cost(body.negative), epsilon)
    k, directions = steps or max(1, math.ceil(math.sqrt(rounds))), 2 * size
    assert found.queries <= 2 + math.ceil(rounds / k) * (k + directions - 1) + (directions - 1) * (k + 1)


def test_many_features_cost_far_fewer_queries_than_a_search_along_each():
    size = 200
    body = Polytope(0, size, 30)
    found = multi_line_search(body, body.base, body.negative, lower=1e-3 * body.least, epsilon=0.01, costs=body.costs)
    rounds = bisections(1e-3 * body.least, body.cost(body.negative), 0.01)
    assert found.cost <= 1.01 * body.least * (1 + 1e-9)
    assert found.queries < 0.5 * 2 * size * rounds


def test_a_lower_bound_that_is_too_high_still_gives_a_negative_point_of_about_that_cost():
    body = Polytope(3, 5, 3)
    high = 3 * body.least
    found = multi_line_search(body, body.base, body.negative, lower=high, costs=body.costs)
    assert not body(found.point[None])[0]
    assert found.cost <= max(1.1 * high, body.cost(body.negative)) * (1 + 1e-9)


def test_a_budget_is_never_overspent():
    body = Polytope(1, 6, 4)
    with pytest.raises(BudgetExhausted):
        multi_line_search(body, body.base, body.negative, lower=1e-6, epsilon=1e-3, budget=20)
    assert body.asked == 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": np.zeros((2, 2))}, r"base and negative have shapes \(2, 2\) and \(4,\): must both be \(D,\)"),
        ({"base": np.full(4, np.nan)}, "base and negative must be finite"),
        ({"negative": np.zeros(4)}, "base and negative are one point"),
        ({"negative": np.full(4, 0.1)}, "negative is classified positive: must be negative"),
        ({"base": np.full(4, 9.0)}, "base is classified negative: must be positive"),
        ({"costs": np.zeros(4)}, r"costs must be \(4,\), above 0 and finite"),
        ({"costs": np.ones(3)}, r"costs must be \(4,\), above 0 and finite, not \(3,\)"),
        ({"lower": 0.0}, "lower must be above 0"),
        ({"epsilon": 0.0}, "epsilon must be at least 1e-09, not 0"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        (
            {"positive": lambda points: points.sum(1)},
            r"the oracle answered float64 of \(1,\) to \(1, D\): must be bool",
        ),
        ({"budget": 0}, "the query budget must be"),
    ],
)
def test_bad_inputs_are_one_line(changes, message):
    known = {"positive": lambda points: points.sum(1) < 1, "base": np.zeros(4), "negative": np.ones(4), "lower": 0.1}
    given = {**known, **changes}
    with pytest.raises(ValueError, match=message) as caught:
        multi_line_search(given.pop("positive"), given.pop("base"), given.pop("negative"), **given)
    assert "\n" not in str(caught.value)
