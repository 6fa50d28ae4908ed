"""Work that is due at some queries: the same values as a condition, and skipped where nobody's is due."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax.detection.sometimes import when


def square(x, y):
    return x**2 + y


@pytest.mark.parametrize("axes", [(0, 0, 0), (None, 0, None), (0, None, 0), (0, None, None)])
def test_mapped_it_is_the_condition_of_each(axes):
    due, x, otherwise = jnp.array([True, False, True]), jnp.arange(3.0), jnp.array([7.0, 8.0, 9.0])
    given = [value if axis == 0 else value[0] for value, axis in zip((due, x, otherwise), axes, strict=True)]
    found = jax.vmap(lambda due, x, no: when(due, square, no, x, jnp.float32(1)), in_axes=axes)(*given)
    due, x, otherwise = (np.broadcast_to(value, 3) for value in given)
    np.testing.assert_allclose(found, np.where(due, x**2 + 1, otherwise))


def test_what_is_due_for_nobody_is_not_computed():
    calls = []

    def counted(x):
        calls.append(1)
        return x

    def function(x):
        return jax.pure_callback(counted, jax.ShapeDtypeStruct((), x.dtype), x, vmap_method="sequential")

    step = jax.jit(jax.vmap(lambda due, x: when(due, function, -x, x)))
    assert step(jnp.zeros(4, bool), jnp.arange(4.0)).tolist() == [0, -1, -2, -3]
    assert not calls
    assert step(jnp.array([False, True, False, False]), jnp.arange(4.0)).tolist() == [0, 1, -2, -3]
    assert calls
