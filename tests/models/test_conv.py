"""The convolution equals the plain one in value and derivatives, and takes the promised form on each platform."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from pp_jax.models import conv, max_pool_2x2
from support import quick

NHWC = ("NHWC", "HWIO", "NHWC")
ONE_AXIS = {"window_strides": (1,), "dimension_numbers": ("NWC", "WIO", "NWC")}
GEOMETRIES = [
    # images, kernel, strides, padding, kernel dilation
    pytest.param((2, 12, 12, 20), (5, 5, 20, 50), (1, 1), "VALID", (1, 1), id="lenet"),
    pytest.param((3, 2, 2, 64), (3, 3, 64, 32), (1, 1), "SAME", (1, 1), id="vgg-last-block", marks=pytest.mark.slow),
    pytest.param((2, 32, 32, 3), (7, 7, 3, 8), (2, 2), ((3, 3), (3, 3)), (1, 1), id="resnet-stem"),
    pytest.param((2, 10, 11, 3), (3, 2, 3, 4), (2, 3), "SAME", (1, 1), id="uneven", marks=pytest.mark.slow),
    pytest.param((2, 11, 9, 3), (3, 3, 3, 4), (1, 2), ((2, 1), (0, 3)), (2, 3), id="dilated"),
    pytest.param((1, 200, 200, 8), (3, 3, 8, 2), (1, 1), "SAME", (1, 1), id="large", marks=pytest.mark.slow),
]


def normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def close(actual, expected, tolerance=1e-5):
    """Within `tolerance` of the largest entry."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * float(np.abs(expected).max()))


def both(strides, padding, dilation):
    options = {"window_strides": strides, "padding": padding, "rhs_dilation": dilation, "dimension_numbers": NHWC}
    return functools.partial(conv, **options), functools.partial(lax.conv_general_dilated, **options)


@functools.partial(jax.jit, static_argnums=0)
def everything(f, x, k, dx, dk):
    """Value, value under differentiation, forward-mode derivative and both reverse-mode derivatives."""
    value, tangent = jax.jvp(f, (x, k), (dx, dk))
    return f(x, k), value, tangent, *jax.vjp(f, x, k)[1](tangent)


@pytest.mark.parametrize(("image", "kernel", "strides", "padding", "dilation"), GEOMETRIES)
def test_values_and_derivatives_are_those_of_the_plain_convolution(image, kernel, strides, padding, dilation):
    arrays = normal(0, image), normal(1, kernel), normal(2, image), normal(3, kernel)
    ours, plain = (everything(f, *arrays) for f in both(strides, padding, dilation))
    for actual, expected in zip(ours, plain, strict=True):
        close(actual, expected)


@pytest.mark.slow
@settings(max_examples=4)
@given(data=st.data())
def test_any_geometry_agrees_with_the_plain_convolution(data):
    def pair(low, high):
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    size, window, strides, dilation = pair(1, 6), pair(1, 3), pair(1, 3), pair(1, 2)
    padding = tuple((d * (k - 1), data.draw(st.integers(0, 2))) for k, d in zip(window, dilation, strict=True))
    test_values_and_derivatives = test_values_and_derivatives_are_those_of_the_plain_convolution
    test_values_and_derivatives((2, *size, 2), (*window, 2, 3), strides, padding, dilation)


def test_second_derivatives_are_those_of_the_plain_convolution():
    ours, plain = both((1, 1), "SAME", (1, 1))
    x, k, v = normal(0, (1, 4, 4, 2)), normal(1, (3, 3, 2, 2)), normal(2, (3, 3, 2, 2))

    def hessian_product(f):
        return jax.jvp(jax.grad(lambda k: jnp.sin(f(x, k)).sum()), (k,), (v,))[1]

    close(jax.jit(lambda: hessian_product(ours))(), jax.jit(lambda: hessian_product(plain))())


@pytest.mark.parametrize(
    ("image", "kernel", "options"),
    [
        pytest.param((2, 6, 6, 4), (3, 3, 2, 6), {"feature_group_count": 2}, id="groups"),
        pytest.param((4, 6, 6, 2), (3, 3, 2, 6), {"batch_group_count": 2}, id="batch-groups"),
        pytest.param(
            (2, 6, 6, 2), (3, 3, 2, 6), {"lhs_dilation": (2, 2), "padding": ((1, 1), (0, 2))}, id="dilated-images"
        ),
        pytest.param((2, 2, 6, 6), (6, 2, 3, 3), {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}, id="nchw"),
        pytest.param(
            (2, 9, 3), (4, 3, 5), {"window_strides": (1,), "dimension_numbers": ("NWC", "WIO", "NWC")}, id="1d"
        ),
    ],
)
def test_what_the_patch_form_does_not_cover_is_left_plain(image, kernel, options):
    options = {"window_strides": (1, 1), "padding": "VALID", "dimension_numbers": NHWC} | options
    x, k = normal(0, image), normal(1, kernel)
    np.testing.assert_array_equal(conv(x, k, **options), lax.conv_general_dilated(x, k, **options))


def test_negative_padding_crops_the_images():
    f = functools.partial(conv, window_strides=(1, 1), dimension_numbers=NHWC)
    x, k = normal(0, (2, 6, 6, 2)), normal(1, (3, 3, 2, 6))
    close(f(x, k, padding=((-1, 1), (2, -3))), f(x[:, 1:, :-3], k, padding=((0, 1), (2, 0))), 1e-6)


def test_a_kernel_that_fits_nowhere_gives_an_empty_result():
    assert conv(normal(0, (2, 3, 3, 2)), normal(1, (5, 5, 2, 4)), (1, 1), "VALID", None, None, NHWC).shape == (
        2,
        0,
        0,
        4,
    )


@pytest.mark.parametrize("size", [2, 8])
def test_vmap_of_one_image_equals_the_batch(size):
    def f(x):
        return conv(x, k, (1, 1), "SAME", dimension_numbers=NHWC)

    x, k = normal(0, (5, size, size, 8)), normal(1, (3, 3, 8, 4))
    close(jax.jit(jax.vmap(lambda image: f(image[None])[0]))(x), jax.jit(f)(x), 1e-6)


@pytest.mark.parametrize("mapped", quick([((0, None),), ((0, 0),)], 1), ids=["kernels", "kernels and images"])
def test_the_derivative_of_vmap_over_kernels_is_that_of_each(mapped):
    def f(kernels, x):
        x = max_pool_2x2(conv(x, kernels[0], (1, 1), "VALID", dimension_numbers=NHWC))
        return jnp.sum(conv(x, kernels[1], (1, 1), "VALID", dimension_numbers=NHWC) ** 2)

    kernels = normal(0, (4, 3, 3, 2, 5)), normal(1, (4, 3, 3, 5, 6))
    x = normal(2, (3, 12, 12, 2)) if mapped[1] is None else normal(2, (4, 3, 12, 12, 2))
    together = jax.jit(jax.grad(lambda ks: jnp.sum(jax.vmap(f, mapped)(ks, x))))(kernels)
    alone = jax.jit(jax.grad(f))
    for row in range(4):
        each = alone([k[row] for k in kernels], x if mapped[1] is None else x[row])
        for whole, part in zip(together, each, strict=True):
            close(whole[row], part)


@pytest.mark.parametrize(
    ("platform", "size", "forward", "backward"),
    [("cpu", 8, 1, 0), ("cpu", 2, 0, 0), ("cuda", 8, 1, 2), ("cuda", 2, 1, 2), ("tpu", 8, 1, 2)],
)
def test_the_platform_of_the_lowering_decides_how_many_plain_convolutions_there_are(platform, size, forward, backward):
    def f(x, k):
        return conv(x, k, (1, 1), "SAME", dimension_numbers=NHWC)

    def gradients(x, k):
        return jax.vjp(f, x, k)[1](jnp.ones((2, size, size, 4)))

    x, k = jnp.ones((2, size, size, 3)), jnp.ones((3, 3, 3, 4))
    for function, count in ((f, forward), (gradients, backward)):
        lowered = jax.jit(function).trace(x, k).lower(lowering_platforms=(platform,))
        assert lowered.as_text().count("stablehlo.convolution") == count


def test_half_precision_keeps_its_dtype():
    x, k = normal(0, (2, 8, 8, 3)).astype(jnp.bfloat16), normal(1, (3, 3, 3, 4)).astype(jnp.bfloat16)
    results = jax.eval_shape(functools.partial(everything, both((1, 1), "SAME", (1, 1))[0]), x, k, x, k)
    assert {result.dtype for result in results} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 7, 2)])
def test_max_pool_is_the_windowed_maximum_and_drops_an_odd_border(shape):
    x, dy = normal(0, shape), normal(1, (shape[0], shape[1] // 2, shape[2] // 2, shape[3]))

    def windowed(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def both(f):
        value, pull = jax.vjp(f, x)
        return value, pull(dy)[0]

    for actual, expected in zip(*(jax.jit(both, static_argnums=0)(f) for f in (max_pool_2x2, windowed)), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_max_pool_shares_the_derivative_among_tied_entries():
    x = jnp.asarray([[3.0, 3.0], [1.0, 3.0]]).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda x: max_pool_2x2(x).sum())(x)
    np.testing.assert_allclose(gradient.reshape(2, 2), [[1 / 3, 1 / 3], [0, 1 / 3]], rtol=1e-6)
