"""Linear classifiers are learned from labels, by bisection towards the boundary."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pp_jax.attacks import QueriesFailed
from pp_jax.attacks.structural import Linear, ScikitAPI, learn_linear

KEY = jax.random.key(0)


def answering(theta):
    """A label API of parameters (K, d + 1)."""

    def api(images):
        rows = images.reshape(len(images), -1)
        return np.argmax(rows @ theta[:, :-1].T + theta[:, -1], axis=1)

    return api


def half_space(features, seed):
    """A boundary through the middle of the cube: class 0 where w·(x − c) > 0."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=features)
    theta = np.append(normal, -normal @ rng.uniform(0.4, 0.6, features))
    return np.stack([theta, 0 * theta])


@settings(max_examples=15)
@given(st.integers(1, 12), st.integers(0, 5))
def test_a_half_space_is_had_to_1e_8_by_order_d_log_precision_queries(features, seed):
    theta = half_space(features, seed)
    stolen = learn_linear(KEY, answering(theta), features=features, classes=2, budget=20_000)
    found = np.c_[stolen.model.weights, stolen.model.bias]
    np.testing.assert_allclose(found, theta / np.linalg.norm(theta), atol=1e-8)
    rounds = np.ceil(np.log2(np.sqrt(features) / 1e-11))
    assert stolen.queries <= 64 + 1.5 * (features + 1) * rounds


def test_precision_is_paid_for_by_its_logarithm():
    theta = half_space(6, 0)
    errors, queries = [], []
    for precision in (1e-3, 1e-6, 1e-9):
        stolen = learn_linear(KEY, answering(theta), features=6, classes=2, budget=20_000, precision=precision)
        queries.append(stolen.queries - 64)
        errors.append(np.abs(np.c_[stolen.model.weights, stolen.model.bias] - theta / np.linalg.norm(theta)).max())
    assert errors[0] > 100 * errors[1] > 10_000 * errors[2]
    assert queries[2] < 3 * queries[0]


def test_three_classes_that_meet_are_had_up_to_a_scale():
    theta = np.array([[2.0, 0.0, -0.6], [0.0, 2.0, -0.9], [0.0, 0.0, 0.0]])
    stolen = learn_linear(KEY, answering(theta), features=2, classes=3, budget=20_000)
    np.testing.assert_allclose(np.c_[stolen.model.weights, stolen.model.bias], theta / np.linalg.norm(theta), atol=1e-7)


def test_classes_that_never_meet_are_separated_all_the_same():
    theta = np.array([[-4.0, 1.5], [0.0, 0.5], [4.0, -2.5]])  # on a line: 0 below 0.25, 2 above 0.75
    stolen = learn_linear(KEY, answering(theta), features=1, classes=3, budget=20_000)
    rows = np.linspace(0, 1, 501)[:, None]
    np.testing.assert_array_equal(stolen.model.logits(rows).argmax(axis=1), answering(theta)(rows))


@pytest.mark.parametrize("kind", ["LogisticRegression", "LinearSVC"])
def test_victims_of_scikit_learn_lose_every_label(kind):
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    rng = np.random.default_rng(0)
    rows = rng.random((200, 4))
    labels = np.argmax(rows[:, :3] + 0.1 * rng.normal(size=(200, 3)), axis=1)
    model = (LogisticRegression(C=10) if kind == "LogisticRegression" else LinearSVC()).fit(rows, labels)
    stolen = learn_linear(KEY, ScikitAPI(model, labels_only=True), features=4, classes=3, budget=50_000)
    inputs = rng.random((2000, 4))
    np.testing.assert_array_equal(stolen.model.logits(inputs).argmax(axis=1), model.predict(inputs))


def test_posteriors_are_taken_by_their_argmax():
    theta = half_space(3, 1)
    victim = Linear(theta[:, :-1], theta[:, -1])
    stolen = learn_linear(
        KEY, lambda images: victim.posteriors(images.reshape(-1, 3)), features=3, classes=2, budget=5000
    )
    np.testing.assert_allclose(np.c_[stolen.model.weights, stolen.model.bias], theta / np.linalg.norm(theta), atol=1e-8)


@pytest.mark.parametrize(
    ("api", "message"),
    [
        (lambda images: np.zeros(len(images), int), r"all of 2048 queries have the label 0: there is no boundary"),
        (
            lambda images: (images.sum(axis=(1, 2, 3)) * 10).astype(int) % 2,
            r"labels contradict every linear classifier",
        ),
        (lambda images: (images.sum(axis=(1, 2, 3)) * 2).astype(int), r"responds with class \d: write classes=\d"),
    ],
)
def test_victims_without_a_linear_boundary_are_named(api, message):
    with pytest.raises(QueriesFailed, match=message):
        learn_linear(KEY, api, features=3, classes=2, budget=20_000)


def test_a_budget_too_small_for_the_equations_is_refused_before_anything_is_asked():
    def api(images):
        raise AssertionError("asked")

    with pytest.raises(ValueError, match=r"3 boundary points at precision 1e-11 take \d+ queries.*budget of 50"):
        learn_linear(KEY, api, features=3, classes=2, budget=50)
    with pytest.raises(ValueError, match="precision must be above 0"):
        learn_linear(KEY, api, features=3, classes=2, budget=5000, precision=0)
