"""Recipes: the schedule decays, and every number enters the step or is refused."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pp_jax.training import Recipe


def test_the_learning_rate_decays_by_its_factor_every_so_many_epochs():
    recipe = Recipe(epochs=9, learning_rate=0.8, momentum=0.0, decay_every=3, decay=0.5)
    optimizer = recipe.optimizer(2)
    weight, steps = jnp.zeros(()), []
    state = optimizer.init(weight)
    for _ in range(18):
        change, state = optimizer.update(jnp.ones(()), state, weight)
        steps.append(-float(change))
    np.testing.assert_allclose(steps, [0.8] * 6 + [0.4] * 6 + [0.2] * 6, rtol=1e-6)


def test_momentum_and_weight_decay_enter_the_step():
    optimizer = Recipe(epochs=1, learning_rate=1.0, momentum=0.5, weight_decay=0.1).optimizer(1)
    weight = jnp.float32(2.0)
    state = optimizer.init(weight)
    first, state = optimizer.update(jnp.ones(()), state, weight)
    second, _ = optimizer.update(jnp.ones(()), state, weight)
    np.testing.assert_allclose([first, second], [-1.2, -1.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, not 0"),
        ({"epochs": 1, "batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"epochs": 1, "learning_rate": -0.1}, "learning_rate must be at least 0 and finite, not -0.1"),
        ({"epochs": 1, "momentum": float("nan")}, "momentum must be at least 0 and finite, not nan"),
        ({"epochs": 1, "decay_every": 0}, "decay_every must be a whole number of at least 1, not 0"),
    ],
)
def test_a_recipe_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**options)


def test_another_rule_takes_the_place_of_sgd():
    recipe = Recipe(epochs=1, learning_rate=0.01, rule=optax.adam)
    weight = jnp.float32(2.0)
    optimizer = recipe.optimizer(1)
    change, _ = optimizer.update(jnp.float32(123.0), optimizer.init(weight), weight)
    np.testing.assert_allclose(change, -0.01, rtol=1e-5)  # Adam's first step has the length of the learning rate.
