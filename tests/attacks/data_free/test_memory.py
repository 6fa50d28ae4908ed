"""The replay memory: what goes in comes out with its own target, and the oldest is forgotten."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax.attacks.data_free import Descent
from pp_jax.attacks.data_free.memory import Memory


def _part(first, count):
    numbers = np.arange(first, first + count, dtype=np.float32)
    return np.broadcast_to(numbers[:, None, None, None], (count, 2, 2, 1)), numbers[:, None]


def test_every_image_is_drawn_with_its_target():
    memory = Memory().add(*_part(0, 5), capacity=100).add(*_part(5, 3), capacity=100)
    images, targets = memory.draw(jax.random.key(0), steps=20, size=8)
    assert (images.shape, targets.shape) == ((20, 8, 2, 2, 1), (20, 8, 1))
    np.testing.assert_array_equal(images[..., 0, 0, :], targets)
    assert set(targets.ravel()) == set(range(8))


def test_the_oldest_parts_are_forgotten_and_the_memory_before_stays():
    first = Memory().add(*_part(0, 5), capacity=8)
    second = first.add(*_part(5, 5), capacity=8)
    third = second.add(*_part(10, 5), capacity=8)
    assert [memory.size for memory in (first, second, third)] == [5, 10, 10]
    assert third.targets[0][0] == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate must be above 0, not 0"),
        ({"rate": 0.1, "momentum": 2.0}, "momentum must be at least 0 and at most 1, not 2"),
        ({"rate": 0.1, "falls": (1.5,)}, "falls must be at least 0 and at most 1, not 1.5"),
    ],
)
def test_optimisers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Descent(**options)


@pytest.mark.parametrize(
    ("descent", "late"), [(Descent(1.0, 0, 0, falls=(0.5,), factor=0.3), 0.3), (Descent(1.0, 0, 0, cosine=True), 0.0)]
)
def test_the_learning_rate_falls_along_the_budget(descent, late):
    optimizer = descent.optimizer(10)
    state, moved, one = optimizer.init(jnp.zeros(())), [], jnp.ones(())
    for _ in range(11):
        change, state = optimizer.update(one, state)
        moved.append(float(-change))
    assert moved[0] == 1.0
    assert moved[-1] == pytest.approx(late, abs=1e-6)
