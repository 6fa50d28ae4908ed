"""Two-layer ReLU networks are extracted from their responses: same function, same parameters up to symmetry."""

import jax
import numpy as np
import pytest

from pp_jax import BlackBox, Rounding, Top1, models
from pp_jax.attacks.structural import TwoLayer, extract_relu, of_mlp, parameter_difference, switching_units
from two_layers import API, centred, network, posteriors, softmax

KEY = jax.random.key(0)
FRESH = np.random.default_rng(1)


@pytest.mark.parametrize(
    ("inputs", "hidden", "classes"),
    [(10, 16, 10), (10, 64, 10), (20, 32, 3), pytest.param(50, 64, 10, marks=pytest.mark.slow)],
)
def test_function_and_parameters_are_recovered_from_posteriors(inputs, hidden, classes):
    true, fresh = network(hidden, inputs, hidden, classes), FRESH.uniform(size=(2000, inputs))
    api = posteriors(true)
    found = extract_relu(KEY, api, (inputs,), budget=20_000)
    assert np.abs(centred(found.network(fresh)) - centred(true(fresh))).max() <= 1e-5
    assert parameter_difference(found.network, true, posteriors=True) <= 1e-5
    assert (found.units, found.extra) == (hidden, 0)
    assert found.error <= 1e-5
    assert found.queries == api.queries <= 20_000


def test_a_single_logit_decides_the_sides_of_more_units_than_inputs():
    true = network(3, 10, 16, 1)
    found = extract_relu(KEY, API(true), (10,), budget=5000, logits=True)
    assert found.extra == 0
    assert parameter_difference(found.network, true) <= 1e-5


def test_sides_that_two_classes_leave_open_cost_two_units_and_no_accuracy():
    """Two classes, one log-ratio: 10 equations for the sides of 32 units."""
    true, fresh = network(5, 10, 32, 2), FRESH.uniform(size=(2000, 10))
    found = extract_relu(KEY, posteriors(true), (10,), budget=10_000)
    assert (found.units, found.extra, len(found.network.weights)) == (32, 2, 34)
    assert np.abs(centred(found.network(fresh)) - centred(true(fresh))).max() <= 1e-5


def test_units_that_never_change_sides_are_part_of_the_affine_rest():
    rng, some = np.random.default_rng(2), network(2, 8, 6, 4)
    weights = np.vstack([some.weights, rng.normal(size=(2, 8))])
    offsets = np.append(some.offsets, [50.0, -50.0])  # always active, and dead
    true = TwoLayer(weights, offsets, np.hstack([some.output, rng.normal(size=(4, 2))]), some.bias)
    assert switching_units(true, 0, 1).tolist() == [True] * 6 + [False] * 2
    found, fresh = extract_relu(KEY, posteriors(true), (8,), budget=5000), rng.uniform(size=(2000, 8))
    assert (found.units, found.extra) == (6, 2)
    assert np.abs(softmax(found.network(fresh)) - softmax(true(fresh))).max() <= 1e-6


def test_a_victim_without_units_is_an_affine_map():
    slope, fresh = np.random.default_rng(0).normal(size=(3, 5)), FRESH.uniform(size=(100, 5))
    found = extract_relu(KEY, API(lambda x: x @ slope.T), (5,), budget=2000, logits=True)
    assert (found.units, found.extra) == (0, 6)
    np.testing.assert_allclose(found.network(fresh), fresh @ slope.T, atol=1e-7)


@pytest.mark.slow
def test_a_black_box_is_stolen_into_a_network_of_the_library():
    model = models.mlp(3, hidden=(5,))
    params = model.init(jax.random.key(3), (2, 3, 1))
    images = np.asarray(FRESH.uniform(size=(50, 2, 3, 1)))
    with jax.enable_x64(True):
        box = BlackBox(model, params)
        found = extract_relu(KEY, box.api(), (2, 3, 1), budget=5000, points=images[:20])
        clean, _ = box(images)
    stolen = found.network
    assert found.units <= switching_units(of_mlp(params), 0, 1).sum()
    np.testing.assert_allclose(softmax(stolen(images)), clean, atol=1e-7)
    logits = [models.mlp(3, hidden=(len(stolen.weights),))(stolen.params(), image) for image in images[:3]]
    np.testing.assert_allclose(logits, stolen(images[:3]), atol=1e-4)


def test_parameters_are_compared_up_to_order_scale_and_what_softmax_ignores():
    true, rng = network(7, 4, 6, 3), np.random.default_rng(0)
    order, scale = rng.permutation(6), rng.uniform(0.1, 10, 6)
    same = TwoLayer(
        (true.weights * scale[:, None])[order],
        (true.offsets * scale)[order],
        (true.output / scale)[:, order],
        true.bias,
    )
    shifted = same._replace(output=same.output + rng.normal(size=6), bias=same.bias + 1)
    assert parameter_difference(same, true) <= 1e-12
    assert parameter_difference(shifted, true) > 0.1
    assert parameter_difference(shifted, true, posteriors=True) <= 1e-12
    assert (
        parameter_difference(TwoLayer(*(part[:5] for part in true[:2]), true.output[:, :5], true.bias), true) == np.inf
    )
    assert parameter_difference(same._replace(weights=-same.weights), true) > 0.1


def deeper(inputs):
    """Two hidden layers."""
    first, second = network(1, 6, 12, 10), network(2, 10, 12, 4)
    return second(np.maximum(first(inputs), 0))


WEIGHTS = np.random.default_rng(0).normal(size=(6, 4))
HONEST = posteriors(network(0, 6, 8, 4)).respond


@pytest.mark.parametrize(
    ("respond", "message", "most"),
    [
        (lambda x: np.eye(4)[HONEST(x).argmax(1)], "have zeros: must be exact posteriors, no hard labels", 24),
        (lambda x: HONEST(x).argmax(1), r"responds \(24,\) to 24 inputs: must be \(24, K\), no labels", 24),
        (lambda x: HONEST(x).astype(np.float32), "responds in float32: must be float64", 24),
        (lambda x: HONEST(x) * np.nan, "must be finite", 24),
        (lambda x: np.full((len(x), 4), 0.25), "do not change with the input", 24),
        (lambda x: np.round(HONEST(x), 3) + 1e-4, "not piecewise linear", 24),
        (lambda x: softmax(np.tanh(x @ WEIGHTS)), "not piecewise linear", 24),
        (lambda x: softmax(deeper(x)), "two layers with ReLU, not a deeper one", 3000),
    ],
)
def test_a_victim_of_another_form_is_refused_in_one_line_after_few_queries(respond, message, most):
    api = API(respond)
    with pytest.raises(ValueError, match=message) as caught:
        extract_relu(KEY, api, (6,), budget=20_000)
    assert "\n" not in str(caught.value)
    assert api.queries <= most


@pytest.mark.parametrize("defense", [Rounding(3), Top1()])
def test_a_defense_that_rounds_or_hides_stops_it_at_the_first_queries(defense):
    model = models.mlp(3, hidden=(5,))
    with jax.enable_x64(True):
        api = BlackBox(model, model.init(jax.random.key(3), (2, 3, 1)), defense).api()
        with pytest.raises(ValueError, match=r"zeros|not piecewise linear|do not change"):
            extract_relu(KEY, api, (2, 3, 1), budget=5000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 100}, r"budget is 100 queries: must be at least 102 for inputs \(6,\)"),
        ({"low": 1.0}, "must be finite, low < high"),
        ({"points": np.zeros((4, 5))}, r"must be \(N, \*\(6,\)\)"),
        ({"points": np.full((4, 6), 255)}, "write images / 255"),
        ({"patience": 0}, "patience"),
        ({"key": 0}, "jax.random.key"),
        ({"shape": ()}, "must be that of an input"),
    ],
)
def test_numbers_out_of_range_cost_no_query(changes, message):
    api = posteriors(network(0, 6, 8, 4))
    arguments = {"key": KEY, "api": api, "shape": (6,), "budget": 5000} | changes
    with pytest.raises(ValueError, match=message):
        extract_relu(**arguments)
    assert api.queries == 0


def test_a_budget_that_ends_on_the_way_is_never_overspent_and_says_how_far_it_came():
    api = posteriors(network(0, 6, 20, 4))
    with pytest.raises(ValueError, match=r"the budget of 300 queries has ended, with \d+ units found"):
        extract_relu(KEY, api, (6,), budget=300)
    assert api.queries <= 300
