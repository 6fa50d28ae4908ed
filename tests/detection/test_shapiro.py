"""The Shapiro–Wilk test: published numbers, samples of any length, edge cases."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax.detection.shapiro import shapiro

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "prada_shapiro.npz")
LONGEST = 512
of = jax.jit(shapiro)


def cases():
    return [i for i in range(int(GOLDEN["count"])) if len(GOLDEN[f"seq{i:03d}/x"]) <= LONGEST]


@functools.cache
def padded(dtype):
    """Golden samples of many lengths, among values that do not count."""
    rows = np.full((len(cases()), LONGEST), 9e9)
    masks = np.zeros(rows.shape, bool)
    for row, mask, i in zip(rows, masks, cases(), strict=True):
        x = GOLDEN[f"seq{i:03d}/x"]
        row[-len(x) :], mask[-len(x) :] = x, True
    return jax.jit(jax.vmap(lambda x, mask: shapiro(x, mask=mask)))(jnp.asarray(rows, dtype), jnp.asarray(masks))


@pytest.mark.parametrize(("dtype", "of_w", "of_p"), [("float64", 1e-8, 1e-6), ("float32", 1e-4, 2e-2)])
def test_w_and_p_are_those_of_royston(dtype, of_w, of_p):
    with jax.enable_x64(dtype == "float64"):
        found = padded(dtype)
        for name, tolerance in (("w", of_w), ("p", of_p)):
            wanted = [float(GOLDEN[f"seq{i:03d}/{name.upper() if name == 'w' else name}"]) for i in cases()]
            np.testing.assert_allclose(getattr(found, name), wanted, rtol=0, atol=tolerance)


def test_fewer_than_three_values_have_no_w():
    found = of(jnp.arange(5.0), mask=jnp.arange(5) < 2)
    assert np.isnan(found.w)
    assert np.isnan(found.p)


def test_equal_values_are_normal():
    found = of(jnp.full(20, 3.0))
    assert (float(found.w), float(found.p)) == (1.0, 1.0)


def test_it_tells_a_normal_sample_from_an_exponential_one():
    normal = of(jax.random.normal(jax.random.key(0), (200,)))
    skewed = of(jax.random.exponential(jax.random.key(0), (200,)))
    assert normal.p > 0.05
    assert skewed.p < 1e-6
    assert skewed.w < normal.w
