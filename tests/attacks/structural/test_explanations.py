"""Two-layer ReLU networks are reconstructed from input gradients, in few queries whatever the dimension."""

import jax
import numpy as np
import pytest

from pp_jax import models
from pp_jax.attacks.structural import (
    explainer,
    of_mlp,
    parameter_difference,
    reconstruct_from_gradients,
    switching_units,
)
from two_layers import API, explanations, network

KEY = jax.random.key(0)


@pytest.mark.parametrize(("inputs", "hidden", "outputs"), [(10, 16, 10), (50, 32, 1), (14, 16, 1), (10, 64, 10)])
def test_parameters_are_recovered_exactly(inputs, hidden, outputs):
    true = network(hidden, inputs, hidden, outputs)
    api = explanations(true)
    found = reconstruct_from_gradients(KEY, api, (inputs,), budget=5000)
    assert parameter_difference(found.network, true) <= 1e-9
    assert (found.units, found.extra) == (hidden, 0)
    assert found.queries == api.queries


def test_queries_grow_as_h_log_h_and_not_with_the_dimension():
    spent = {}
    for inputs in (20, 200):
        for hidden in (4, 16, 64):
            spent[inputs, hidden] = reconstruct_from_gradients(
                KEY, explanations(network(1, inputs, hidden, 3)), (inputs,), budget=5000
            )
    for (_, hidden), found in spent.items():
        assert found.queries <= 5 * hidden * np.log2(hidden) + 40
    for hidden in (4, 16, 64):
        assert spent[200, hidden].queries <= 1.5 * spent[20, hidden].queries


def test_a_network_of_the_library_is_reconstructed_from_its_float32_gradients():
    model = models.mlp(3, hidden=(8,))
    params = model.init(jax.random.key(1), (4, 4, 1))
    params["params"]["fc1"]["bias"] = -0.5 * params["params"]["fc1"]["kernel"].sum(0)
    true = of_mlp(params)
    assert switching_units(true, 0, 1).all()
    found = reconstruct_from_gradients(KEY, explainer(model, params), (4, 4, 1), budget=2000)
    assert parameter_difference(found.network, true) <= 1e-3
    fresh = np.random.default_rng(0).uniform(size=(500, 16))
    np.testing.assert_allclose(found.network(fresh), true(fresh), atol=1e-4)


def deep(inputs):
    """Values and gradients of a network of two hidden layers."""
    first, second = network(1, 6, 12, 10), network(2, 10, 12, 4)
    middle, inner = explanations(first).respond(inputs)
    slope = np.where(middle[:, :, None] > 0, inner, 0)
    rectified = np.maximum(middle, 0)
    active = rectified @ second.weights.T + second.offsets > 0
    outer = np.einsum("bh,kh,hd->bkd", active, second.output, second.weights, optimize=True)
    return second(rectified), outer @ slope


WEIGHTS = np.random.default_rng(0).normal(size=(4, 6))


def smooth(inputs):
    """tanh of a linear map."""
    values = np.tanh(inputs @ WEIGHTS.T)
    return values, (1 - values[:, :, None] ** 2) * WEIGHTS


@pytest.mark.parametrize(
    ("respond", "message"),
    [
        (network(0, 6, 8, 4), "must respond a pair"),
        (lambda x: (np.ones((len(x), 4)), np.ones((len(x), 6))), r"must be \(1, K\) and \(1, K, 6\)"),
        (lambda x: (np.ones((len(x), 4)), np.zeros((len(x), 4, 6))), "gradients are zero"),
        (lambda x: (np.ones((len(x), 4)), np.full((len(x), 4, 6), np.nan)), "must be finite"),
        (smooth, "not constant in pieces"),
        (deep, "two layers with ReLU, not a deeper one"),
    ],
)
def test_an_api_without_usable_gradients_is_refused_in_one_line(respond, message):
    api = API(respond)
    with pytest.raises(ValueError, match=message) as caught:
        reconstruct_from_gradients(KEY, api, (6,), budget=20_000)
    assert "\n" not in str(caught.value)


def test_a_budget_that_is_too_small_costs_no_query():
    api = explanations(network(0, 6, 8, 4))
    with pytest.raises(ValueError, match="budget is 20 queries: must be at least 21"):
        reconstruct_from_gradients(KEY, api, (6,), budget=20)
    assert api.queries == 0
    with pytest.raises(ValueError, match=r"the budget of 40 queries has ended"):
        reconstruct_from_gradients(KEY, api, (6,), budget=40)
    assert api.queries <= 40
