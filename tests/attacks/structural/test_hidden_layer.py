"""Networks with one hidden layer are solved for from their posteriors."""

import functools
import warnings

import jax
import numpy as np
import pytest

from pp_jax.attacks import QueriesFailed
from pp_jax.attacks.structural import ScikitAPI, fit_hidden_layer, solve_hidden_layer, unknowns
from pp_jax.attacks.structural.hidden_layer import _equations
from pp_jax.attacks.structural.linear import with_ones

neural_network = pytest.importorskip("sklearn.neural_network")

RNG = np.random.default_rng(0)
ROWS = RNG.random((150, 4))
LABELS = (ROWS[:, :2].sum(axis=1) > 1) + (ROWS[:, 2] > 0.6).astype(int)


@functools.cache
def victim(activation, hidden=3):
    """A small network of scikit-learn, trained for real."""
    network = neural_network.MLPClassifier(
        (hidden,), activation=activation, learning_rate_init=0.02, max_iter=150, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stops before it converges: meant so
        return network.fit(ROWS, LABELS)


@pytest.mark.parametrize(
    ("activation", "share"),
    [("tanh", 2), pytest.param("logistic", 2, marks=pytest.mark.slow), pytest.param("relu", 8, marks=pytest.mark.slow)],
)
def test_a_few_times_as_many_queries_as_unknowns_give_the_network_to_1e_6(activation, share):
    """A kink of relu that lies between the queries is not seen: it takes more of them."""
    model = victim(activation)
    count = share * unknowns(4, 3, 3)
    stolen = solve_hidden_layer(
        jax.random.key(1),
        ScikitAPI(model),
        features=4,
        hidden=3,
        classes=3,
        budget=count,
        activation=activation,
        restarts=60,
    )
    assert stolen.queries == count
    assert stolen.model.residual < 1e-9
    inputs = RNG.random((300, 4))
    np.testing.assert_allclose(stolen.model.posteriors(inputs), model.predict_proba(inputs), atol=1e-6)


def test_unknowns_are_counted_as_in_the_papers_table():
    """Table 4: 2225 unknowns, and as many queries as that, half, twice or five times as many."""
    assert unknowns(105, 20, 5) == 2225


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
def test_the_normal_equations_are_those_of_finite_differences(activation):
    rng = np.random.default_rng(0)
    design, ratios = with_ones(rng.random((7, 2))), rng.normal(size=(7, 2))
    equations, theta = _equations(activation, design, ratios, 3), rng.normal(size=3 * 3 + 2 * 4)
    residual, normal, gradient = equations(theta, True)
    steps = 1e-6 * np.eye(theta.size)
    jacobian = np.stack([(equations(theta + s, False)[0] - equations(theta - s, False)[0]) / 2e-6 for s in steps], 1)
    np.testing.assert_allclose(normal, jacobian.T @ jacobian, atol=1e-7)
    np.testing.assert_allclose(gradient, jacobian.T @ residual, atol=1e-7)


def test_a_network_of_another_size_is_told_by_its_residual():
    model = victim("tanh", hidden=4)
    answers = model.predict_proba(ROWS)
    found = fit_hidden_layer(jax.random.key(0), ROWS, answers, hidden=1, restarts=3, steps=60)
    assert found.residual > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 10}, r"10 queries give 20 equations for 23 parameters: must be at least 12 queries"),
        ({"activation": "gelu"}, r"activation must be one of tanh, logistic, relu, not 'gelu'"),
        ({"classes": 1}, r"classes must be a whole number of at least 2"),
        ({"hidden": 0}, r"hidden must be a whole number of at least 1"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_asked(options, message):
    def api(images):
        raise AssertionError("asked")

    with pytest.raises(ValueError, match=message):
        solve_hidden_layer(
            jax.random.key(0), api, **{"features": 4, "hidden": 3, "classes": 3, "budget": 100, **options}
        )


def test_another_number_of_classes_and_zeros_are_named():
    with pytest.raises(QueriesFailed, match=r"responds with 3 classes: write classes=3"):
        solve_hidden_layer(jax.random.key(0), ScikitAPI(victim("tanh")), features=4, hidden=3, classes=2, budget=100)
    with pytest.raises(ValueError, match=r"\d+ of 150 responses hold a zero"):
        fit_hidden_layer(jax.random.key(0), ROWS, np.eye(3)[LABELS], hidden=3)
