"""A network is a pure logits function of one image in pixel space, the same alone, in a batch and under jit."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import models
from support import quick

GREY, COLOUR = (28, 28, 1), (32, 32, 3)


@pytest.fixture(scope="module")
def lenet():
    network = models.lenet(mean=(0.13,), std=(0.31,))
    return network, jax.jit(network.init, static_argnums=1)(jax.random.key(0), GREY)


@pytest.fixture(scope="module")
def wrn():
    network = models.Network(models.WRN(num_classes=7, depth=10, width=1), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    return network, jax.jit(network.init, static_argnums=1)(jax.random.key(0), (8, 8, 3))


def images(shape, count=4, seed=1):
    return np.random.default_rng(seed).random((count, *shape), np.float32)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(network, variables, image):
    """A network's logits, compiled."""
    return network(variables, image)


@pytest.mark.parametrize(("fixture", "shape"), quick([("lenet", GREY), ("wrn", (8, 8, 3))], 0))
def test_one_image_gives_the_same_logits_alone_and_in_a_batch(fixture, shape, request):
    network, variables = request.getfixturevalue(fixture)
    x = images(shape)
    batch = jax.jit(jax.vmap(network, (None, 0)))(variables, x)
    np.testing.assert_allclose(batch[1], logits_of(network, variables, x[1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("fixture", "shape", "dense"), [("lenet", GREY, "fc2"), ("wrn", (8, 8, 3), "fc")])
def test_features_are_the_input_of_the_last_dense_layer(fixture, shape, dense, request):
    network, variables = request.getfixturevalue(fixture)
    image, layer = images(shape)[0], variables["params"][dense]
    features = np.asarray(jax.jit(network.features)(variables, image))
    logits = features @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    np.testing.assert_allclose(logits_of(network, variables, image), logits, rtol=1e-4, atol=1e-5)


def test_normalisation_is_inside_so_gradients_are_in_pixel_space(lenet):
    network, variables = lenet
    bare, image = models.lenet(), images(GREY)[0]
    inside = jax.jit(jax.grad(lambda x: network(variables, x)[0]))(image)
    outside = jax.jit(jax.grad(lambda x: bare(variables, x)[0]))((image - 0.13) / 0.31)
    np.testing.assert_allclose(inside, np.asarray(outside) / 0.31, rtol=1e-4, atol=1e-6)


def test_each_channel_has_its_own_normalisation(wrn):
    network, variables = wrn
    image = images((8, 8, 3))[0]
    normalised = (image - np.float32([[network.mean]])) / np.float32([[network.std]])
    expected = jax.jit(network.module.apply)(variables, normalised[None])[0]
    np.testing.assert_allclose(logits_of(network, variables, image), expected, rtol=1e-5, atol=1e-6)


def test_uint8_images_are_scaled_by_255(lenet):
    network, variables = lenet
    image = np.random.default_rng(2).integers(0, 256, GREY, np.uint8)
    expected = logits_of(network, variables, image.astype(np.float32) / np.float32(255))
    np.testing.assert_allclose(logits_of(network, variables, image), expected, rtol=1e-5, atol=1e-6)


def test_bfloat16_images_lose_no_more_than_their_own_rounding(lenet):
    network, variables = lenet
    image = images(GREY)[0].astype(jnp.bfloat16)
    expected = logits_of(network, variables, image.astype(np.float32))
    np.testing.assert_allclose(logits_of(network, variables, image), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16, jnp.uint8])
def test_x64_mode_changes_nothing_for_single_precision(lenet, dtype):
    network, variables = lenet
    image = images(GREY)[0]
    expected = logits_of(network, variables, image)
    with jax.enable_x64(True):
        pixels = (image * 255).round().astype(dtype) if dtype == jnp.uint8 else image.astype(dtype)
        logits = logits_of(network, variables, pixels)
        assert logits.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)
        np.testing.assert_allclose(logits, expected, atol=1e-2)


def test_training_moves_the_batch_statistics_and_nothing_else(wrn):
    network, variables = wrn
    x = images((8, 8, 3), count=6)
    logits, trained = jax.jit(network.train)(variables, x)
    assert logits.shape == (6, 7)
    assert jax.tree.structure(trained) == jax.tree.structure(variables)
    for before, after in zip(jax.tree.leaves(variables["params"]), jax.tree.leaves(trained["params"]), strict=True):
        np.testing.assert_array_equal(before, after)
    first = network.module.bind(variables)
    x = (x - np.float32([[[network.mean]]])) / np.float32([[[network.std]]])
    kernel = first.variables["params"]["conv1"]["kernel"]
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    y, moved = np.asarray(y), trained["batch_stats"]["stage1_block1"]["norm1"]
    np.testing.assert_allclose(moved["mean"], 0.1 * y.mean((0, 1, 2)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(moved["var"], 0.9 + 0.1 * y.var((0, 1, 2)), rtol=1e-4)


def test_training_a_network_without_batch_norm_returns_its_variables(lenet):
    network, variables = lenet
    x = images(GREY)
    logits, trained = jax.jit(network.train)(variables, x)
    alone = jax.jit(jax.vmap(network, (None, 0)))(variables, x)
    np.testing.assert_allclose(logits, alone, rtol=1e-4, atol=1e-5)
    assert trained.keys() == variables.keys()


def test_equal_networks_are_one_static_argument(lenet):
    _, variables = lenet

    @chex.assert_max_traces(n=1)
    def forward(network, variables, image):
        return network(variables, image)

    compiled = jax.jit(forward, static_argnums=0)
    for network in (models.lenet(), models.lenet()):
        compiled(network, variables, images(GREY)[0])
    assert models.lenet() != models.lenet(3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((28, 28), np.float32), r"shape \(28, 28\) must have 3 axes"),
        (np.zeros((1, 28, 28, 1), np.float32), r"shape \(1, 28, 28, 1\) must have 3 axes"),
        (np.zeros((12, 28, 1), np.float32), r"shape \(12, 28, 1\) must be at least 16"),
        (np.zeros((32, 32, 1), np.float32), r"shape \(32, 32, 1\) and the variables must fit"),
        (np.zeros((28, 28, 3), np.float32), r"shape \(28, 28, 3\) and the variables must fit"),
        (np.zeros(GREY, np.int32), "dtype int32 must be uint8"),
        (np.zeros(GREY, bool), "dtype bool must be uint8"),
        (np.zeros(GREY, np.complex64), "dtype complex64 must be uint8"),
    ],
)
def test_a_wrong_image_is_named(lenet, image, message):
    network, variables = lenet
    for function in (network, network.features, jax.jit(network.__call__)):
        with pytest.raises(ValueError, match=message):
            function(variables, image)


def test_wrong_batches_channels_and_variables_are_named(lenet, wrn):
    network, variables = lenet
    with pytest.raises(ValueError, match=r"shape \(28, 28, 1\) must have 4 axes"):
        network.train(variables, np.zeros(GREY, np.float32))
    with pytest.raises(ValueError, match="must end in 3 channels"):
        wrn[0](wrn[1], np.zeros((8, 8, 1), np.float32))
    for wrong in ({}, variables["params"], {"params": {}}):
        with pytest.raises(ValueError, match="the variables must fit"):
            network(wrong, np.zeros(GREY, np.float32))
    with pytest.raises(ValueError, match="the variables must fit"):
        wrn[0]({"params": wrn[1]["params"]}, np.zeros((8, 8, 3), np.float32))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.lenet(0), "num_classes=0 must be at least 1"),
        (lambda: models.wrn_40_2(-1), "num_classes=-1 must be at least 1"),
        (lambda: models.vgg16_bn(image_size=64), "image_size=64 must be 32 or 224"),
        (lambda: models.lenet(std=(0.0,)), r"std=\(0.0,\) must be positive"),
        (lambda: models.lenet(mean=(0.1, 0.2)), "must have one entry each"),
        (lambda: models.lenet(mean=(), std=()), "must have one entry each"),
        (lambda: models.lenet().init(jax.random.key(0), (28, 28)), r"image_shape=\(28, 28\) must be three"),
        (lambda: models.lenet().init(jax.random.key(0), (28, 0, 1)), r"image_shape=\(28, 0, 1\) must be three"),
        (lambda: models.vgg16_bn().init(jax.random.key(0), (28, 28, 3)), "must be 32 pixels high and wide"),
        (lambda: models.resnet18().init(jax.random.key(0), (4, 8, 3)), "must be at least 8 pixels"),
        (lambda: models.Network(models.WRN(depth=12)).init(jax.random.key(0), COLOUR), r"depth=12 must be 6·n \+ 4"),
    ],
)
def test_a_wrong_construction_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
