"""Hyper-parameters follow from learned parameters, within 1 %."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pp_jax.attacks.structural import ScikitAPI, solve_linear
from pp_jax.attacks.structural import hyperparameters as stealing

pytest.importorskip("sklearn")
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.svm import SVC, LinearSVC

LAMBDAS = (0.1, 1.0, 10.0)


@functools.cache
def data():
    """Features in [0, 1], a noisy linear target, and labels that overlap."""
    rng = np.random.default_rng(0)
    rows = rng.random((150, 6))
    targets = rows @ np.array([3.0, -2.0, 1.0, 0.0, 0.0, 4.0]) + 0.5 * rng.normal(size=150)
    return rows, targets, (targets > np.median(targets)).astype(int)


@given(st.integers(2, 8), st.floats(1e-3, 1e3))
def test_ridge(features, penalty):
    rng = np.random.default_rng(features)
    rows, targets = rng.random((30, features)), rng.normal(size=30)
    model = Ridge(alpha=penalty).fit(rows, targets)
    found = stealing.ridge(rows, targets, model.coef_, bias=float(model.intercept_))
    assert found.value == pytest.approx(penalty, rel=1e-2)
    assert found.residual < 1e-4


@pytest.mark.parametrize("penalty", LAMBDAS)
def test_kernel_ridge(penalty):
    rows, targets, _ = data()
    kernel = np.exp(-((rows[:, None] - rows) ** 2).sum(axis=2))
    model = KernelRidge(alpha=penalty, kernel="precomputed").fit(kernel, targets)
    assert stealing.kernel_ridge(kernel, targets, model.dual_coef_).value == pytest.approx(penalty, rel=1e-2)


@pytest.mark.parametrize("alpha", [1e-3, 1e-2, 1e-1])
def test_lasso(alpha):
    rows, targets, _ = data()
    model = Lasso(alpha=alpha, tol=1e-8).fit(rows, targets)
    found = stealing.lasso(rows, targets, model.coef_, bias=float(model.intercept_))
    assert found.value == pytest.approx(2 * len(rows) * alpha, rel=1e-2)


@pytest.mark.parametrize("penalty", LAMBDAS)
def test_logistic_regression_of_weights_that_were_stolen_first(penalty):
    rows, _, labels = data()
    model = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=1000).fit(rows, labels)
    stolen = solve_linear(jax.random.key(0), ScikitAPI(model), features=6).model
    weights, bias = stolen.weights[1] - stolen.weights[0], float(stolen.bias[1] - stolen.bias[0])
    assert stealing.logistic(rows, labels, weights, bias=bias).value == pytest.approx(penalty, rel=1e-2)


def test_logistic_regression_with_an_l1_penalty():
    rows, _, labels = data()
    rows = rows - rows.mean(axis=0)
    options = {"solver": "liblinear", "fit_intercept": False, "random_state": 0}
    model = LogisticRegression(C=0.5, l1_ratio=1, tol=1e-8, max_iter=1000, **options).fit(rows, labels)
    assert (model.coef_ == 0).any()
    found = stealing.logistic(rows, labels, model.coef_, penalty="l1")
    assert found.value == pytest.approx(2, rel=1e-2)


@pytest.mark.parametrize("penalty", LAMBDAS)
def test_support_vector_machines(penalty):
    rows, _, labels = data()
    hinge = SVC(kernel="linear", C=1 / penalty, tol=1e-8).fit(rows, labels)
    found = stealing.svm(rows, labels, hinge.coef_, bias=float(hinge.intercept_[0]))
    assert found.value == pytest.approx(penalty, rel=1e-2)
    assert found.residual < 1e-3
    squared = LinearSVC(C=1 / penalty, tol=1e-8, max_iter=100_000, random_state=0).fit(rows, labels)
    ones, weights = np.c_[rows, np.ones(len(rows))], np.append(squared.coef_, squared.intercept_)
    assert stealing.svm(ones, labels, weights, loss="squared_hinge").value == pytest.approx(penalty, rel=1e-2)


def test_parameters_of_another_objective_show_by_their_residual():
    rows, targets, _ = data()
    model = Ridge(alpha=1.0).fit(rows, targets)
    own = stealing.ridge(rows, targets, model.coef_, bias=float(model.intercept_))
    other = stealing.lasso(rows, targets, model.coef_, bias=float(model.intercept_))
    assert own.residual < 1e-6 < 0.1 < other.residual


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y, t: stealing.ridge(x, y, np.zeros(6)), r"penalty's gradient is zero \(all weights are\)"),
        (lambda x, y, t: stealing.svm(x, t, np.zeros(6)), r"penalty's gradient is zero"),
        (lambda x, y, t: stealing.lasso(x, y, np.zeros(6)), r"penalty's gradient is zero"),
        (lambda x, y, t: stealing.ridge(x, y, np.ones(5)), r"shapes \(150, 6\), \(150,\) and \(5,\): must be"),
        (lambda x, y, t: stealing.ridge(x, y * np.nan, np.ones(6)), r"targets must be finite"),
        (lambda x, y, t: stealing.logistic(x, t + 1, np.ones(6)), r"labels must be 0 or 1, not \[1\.0, 2\.0\]"),
        (lambda x, y, t: stealing.logistic(x, t, np.ones(6), penalty="l3"), r"penalty must be 'l1' or 'l2', not 'l3'"),
        (lambda x, y, t: stealing.svm(x, t, np.ones(6), loss="log"), r"loss must be 'hinge' or 'squared_hinge'"),
        (lambda x, y, t: stealing.svm(x, 0 * t, -np.ones(6), bias=-9), r"no sample is inside of the margin"),
        (
            lambda x, y, t: stealing.svm(np.ones((9, 1)), np.r_[np.ones(8), 0], [1.0]),
            r"8 samples at margin 1 leave 9 unknowns for 2 equations: .* not determined",
        ),
        (lambda x, y, t: stealing.least_squares(np.ones(2), np.ones(3)), r"gradients have 2 and 3 entries"),
    ],
)
def test_singular_systems_and_bad_inputs_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(*data())
    assert "\n" not in str(caught.value)
