"""Linear classifiers are solved for exactly, by as many queries as a class has parameters."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pp_jax import BlackBox, defenses
from pp_jax.attacks import QueriesFailed
from pp_jax.attacks.structural import (
    Linear,
    ScikitAPI,
    fit_softmax,
    linear_logits,
    solve_linear,
    solve_softmax,
)

linear_model = pytest.importorskip("sklearn.linear_model")

KEY = jax.random.key(0)


def blobs(features, classes, *, seed=0, count=120):
    """Rows in [0, 1]^d with labels that all occur."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return np.clip(rng.random((classes, features))[labels] + 0.2 * rng.normal(size=(count, features)), 0, 1), labels


def logistic(features, classes, **options):
    """A victim of scikit-learn."""
    return linear_model.LogisticRegression(max_iter=1000).fit(*blobs(features, classes, **options))


def differences(model):
    """Weights and bias of scikit-learn relative to the last class."""
    theta = np.c_[model.coef_, model.intercept_]
    theta = np.r_[-theta, 0 * theta] if len(theta) == 1 else theta
    return theta - theta[-1]


@settings(max_examples=6)
@given(st.integers(1, 9), st.integers(2, 5), st.integers(0, 3))
def test_d_plus_one_queries_give_every_parameter_to_1e_6(features, classes, seed):
    model = logistic(features, classes, seed=seed)
    stolen = solve_linear(KEY, ScikitAPI(model), features=features)
    assert stolen.queries == features + 1
    theta = np.c_[stolen.model.weights, stolen.model.bias]
    np.testing.assert_allclose(theta, differences(model), atol=1e-6)
    rows = np.random.default_rng(1).random((50, features))
    np.testing.assert_allclose(stolen.model.posteriors(rows), model.predict_proba(rows), atol=1e-9)


def test_the_papers_softmax_takes_a_fifth_of_its_530_queries():
    """Table 4: K = 5 classes and d = 105 inputs are 530 unknowns; the paper solves for them by 530 queries."""
    rng = np.random.default_rng(0)
    victim = Linear(rng.normal(size=(5, 105)), rng.normal(size=5))
    stolen = solve_linear(KEY, lambda images: victim.posteriors(images.reshape(-1, 105)), features=105)
    assert stolen.model.weights.size + stolen.model.bias.size == 530
    assert stolen.queries == 106 == 530 // 5
    rows = rng.random((500, 105))
    np.testing.assert_allclose(stolen.model.posteriors(rows), victim.posteriors(rows), atol=1e-6)


def test_more_queries_are_spent_and_averaged():
    victim = logistic(4, 3)
    api = ScikitAPI(victim)

    def noisy(images):
        return np.clip(api(images) + 1e-4 * np.random.default_rng(len(images)).normal(size=(len(images), 3)), 1e-9, 1)

    errors = []
    for budget in (5, 400):
        stolen = solve_linear(KEY, noisy, features=4, budget=budget)
        assert stolen.queries == budget
        errors.append(np.abs(np.c_[stolen.model.weights, stolen.model.bias] - differences(victim)).max())
    assert errors[1] < errors[0]


def test_a_box_of_the_library_is_solved_too():
    victim = Linear(np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]]), np.array([0.3, 0.0]))
    stolen = solve_linear(KEY, BlackBox(linear_logits, victim).api(), features=3)
    np.testing.assert_allclose(stolen.model.weights, victim.weights, atol=1e-5)
    np.testing.assert_allclose(stolen.model.bias, victim.bias, atol=1e-5)


def test_a_class_that_is_zero_in_some_rows_is_solved_for_by_the_others():
    victim = Linear(np.array([[4.0, 1.0], [0.0, -3.0], [0.0, 0.0]]), np.array([0.0, 1.0, 0.0]))
    rows = np.random.default_rng(0).random((12, 2))
    answers = victim.posteriors(rows)
    answers[:4, 1] = 0
    found = solve_softmax(rows, answers)
    np.testing.assert_allclose(found.weights, victim.weights, atol=1e-9)


def test_features_that_repeat_others_need_the_shortest_solution():
    victim = Linear(np.array([[1.0, 2.0], [0.0, 0.0]]), np.zeros(2))
    rows = np.random.default_rng(0).random((9, 2))
    doubled = np.c_[rows, rows[:, 0]]
    with pytest.raises(ValueError, match=r"features of 9 queries have rank 3, of 4 with the bias"):
        solve_softmax(doubled, victim.posteriors(rows))
    found = solve_softmax(doubled, victim.posteriors(rows), minimum_norm=True)
    np.testing.assert_allclose(found.posteriors(doubled), victim.posteriors(rows), atol=1e-12)


def test_a_fit_finds_what_least_squares_finds_and_withstands_zeros():
    victim = Linear(np.array([[3.0, -1.0], [0.5, 2.0], [0.0, 0.0]]), np.array([0.2, -1.0, 0.0]))
    rows = np.random.default_rng(0).random((60, 2))
    clean = fit_softmax(rows, victim.posteriors(rows), ridge=0)
    np.testing.assert_allclose(clean.weights, victim.weights, atol=1e-3)
    rounded = np.round(victim.posteriors(rows), 1)
    labels = victim.posteriors(rows).argmax(axis=1)
    assert np.mean(fit_softmax(rows, rounded).posteriors(rows).argmax(axis=1) == labels) > 0.9


@pytest.mark.parametrize(
    ("features", "answers", "message"),
    [
        (np.zeros((3, 4)), np.ones((3, 2)) / 2, r"3 queries do not determine 5 parameters a class"),
        (np.zeros((3, 2)), np.ones((3, 2)) / 2, r"have rank 1, of 3 with the bias"),
        (np.eye(3), np.eye(3), r"3 queries do not determine 4"),
        (np.r_[np.eye(3), np.zeros((1, 3))], np.eye(2)[[0, 1, 1, 0]], r"class \d has a response above zero in \d of 4"),
        (np.eye(3), np.array([0, 1, 1]), r"must be \(n, d\) and posteriors"),
        (np.eye(3), np.ones((2, 2)) / 2, r"have shapes \(3, 3\) and \(2, 2\)"),
        (np.full((3, 1), np.nan), np.ones((3, 2)) / 2, r"features must be finite"),
    ],
)
def test_systems_without_one_solution_are_refused(features, answers, message):
    with pytest.raises(ValueError, match=message) as caught:
        solve_softmax(features, answers)
    assert "\n" not in str(caught.value)


def counted(api):
    """An API that counts its queries."""

    def call(images):
        call.queries += len(images)
        return api(images)

    call.queries = 0
    return call


def test_too_small_a_budget_is_refused_before_anything_is_asked():
    api = counted(ScikitAPI(logistic(4, 2)))
    with pytest.raises(ValueError, match=r"4 queries do not determine 5 parameters a class.*budget=5"):
        solve_linear(KEY, api, features=4, budget=4)
    assert api.queries == 0


def test_an_api_that_says_that_it_gives_labels_is_refused_before_anything_is_asked():
    api = ScikitAPI(logistic(4, 2), labels_only=True)
    with pytest.raises(ValueError, match=r"class indices, but this attack needs posteriors") as caught:
        solve_linear(KEY, api, features=4)
    assert not isinstance(caught.value, QueriesFailed)


def test_one_that_does_not_say_so_costs_one_query():
    api = counted(ScikitAPI(logistic(4, 2), labels_only=True))
    with pytest.raises(QueriesFailed, match=r"class indices.*1 of 5 queries") as caught:
        solve_linear(KEY, api, features=4)
    assert api.queries == 1 == caught.value.transfer.queries


def test_a_defense_that_gives_labels_leaves_no_logarithm():
    box = BlackBox(linear_logits, Linear(np.eye(3), np.zeros(3)), defenses.Top1())
    with pytest.raises(QueriesFailed, match=r"above zero in \d of 4 rows.*truncated or saturated"):
        solve_linear(KEY, box.api(), features=3)
