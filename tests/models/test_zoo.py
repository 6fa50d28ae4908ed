"""Every network of the zoo has the published parameter count, initialisation and output shapes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import models

COUNTS = [
    # LeNet: 26·20 + 501·50 + 801·500 + 501·10. VGG16-BN at 32×32: torchvision's features plus one linear layer.
    pytest.param(models.lenet(10), (28, 28, 1), 431_080, id="lenet"),
    pytest.param(models.vgg16_bn(10), (32, 32, 3), 14_728_266, id="vgg16_bn-32"),
    pytest.param(models.vgg16_bn(100), (32, 32, 3), 14_774_436, id="vgg16_bn-32-100"),
    pytest.param(models.vgg16_bn(1000, image_size=224), (224, 224, 3), 138_365_992, id="vgg16_bn-224"),
    pytest.param(models.resnet18(1000, small_images=False), (224, 224, 3), 11_689_512, id="resnet18"),
    pytest.param(models.resnet34(1000, small_images=False), (224, 224, 3), 21_797_672, id="resnet34"),
    pytest.param(models.resnet50(1000, small_images=False), (224, 224, 3), 25_557_032, id="resnet50"),
    pytest.param(models.resnet18(10), (32, 32, 3), 11_173_962, id="resnet18-small"),
    pytest.param(models.wrn_40_2(10), (32, 32, 3), 2_243_546, id="wrn_40_2"),
    pytest.param(models.wrn_40_2(100), (32, 32, 3), 2_255_156, id="wrn_40_2-100"),
]


@pytest.mark.parametrize(("network", "shape", "count"), COUNTS)
def test_parameter_counts_are_the_published_ones(network, shape, count):
    variables = jax.eval_shape(functools.partial(network.init, image_shape=shape), jax.random.key(0))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == count


@pytest.mark.parametrize(
    ("network", "shape", "features"),
    [
        pytest.param(models.lenet(7), (28, 28, 1), 500, id="lenet"),
        pytest.param(models.vgg16_bn(7), (32, 32, 3), 512, id="vgg16_bn"),
        pytest.param(models.vgg16_bn(7, image_size=224), (224, 224, 3), 4096, id="vgg16_bn-224"),
        pytest.param(models.resnet34(7), (32, 32, 3), 512, id="resnet34"),
        pytest.param(models.resnet50(7, small_images=False), (64, 64, 3), 2048, id="resnet50", marks=pytest.mark.slow),
        pytest.param(models.wrn_40_2(7), (32, 32, 3), 128, id="wrn_40_2", marks=pytest.mark.slow),
    ],
)
def test_logits_features_and_training_have_their_shapes(network, shape, features):
    variables = jax.eval_shape(functools.partial(network.init, image_shape=shape), jax.random.key(0))
    image, batch = (jax.ShapeDtypeStruct(s, jnp.float32) for s in (shape, (2, *shape)))
    assert jax.eval_shape(network, variables, image).shape == (7,)
    assert jax.eval_shape(network.features, variables, image).shape == (features,)
    logits, trained = jax.eval_shape(network.train, variables, batch)
    assert logits.shape == (2, 7)
    assert jax.tree.structure(trained) == jax.tree.structure(variables)


@pytest.mark.slow
def test_lenet_starts_as_flax_does():
    params = jax.jit(models.lenet().init, static_argnums=1)(jax.random.key(0), (28, 28, 1))["params"]
    for name, fan_in in (("conv1", 25), ("conv2", 500), ("fc1", 800), ("fc2", 500)):
        np.testing.assert_allclose(params[name]["kernel"].std(), fan_in**-0.5, rtol=0.06)
        assert not params[name]["bias"].any()


def test_lenet_with_published_init_starts_uniform_within_one_over_root_fan_in():
    init = jax.jit(models.lenet(published_init=True).init, static_argnums=1)
    params = jax.tree.map(np.asarray, init(jax.random.key(0), (28, 28, 1))["params"])
    for name, fan_in in (("conv1", 25), ("conv2", 500), ("fc1", 800), ("fc2", 500)):
        bound = fan_in**-0.5
        for leaf in params[name].values():
            assert np.abs(leaf).max() <= bound
        kernel = params[name]["kernel"]
        np.testing.assert_allclose(kernel.std(), bound / 3**0.5, rtol=0.05)
        assert np.abs(params[name]["bias"]).max() > 0.5 * bound


@pytest.mark.slow
def test_vgg_starts_as_the_paper_says():
    params = jax.jit(models.vgg16_bn(100).init, static_argnums=1)(jax.random.key(0), (32, 32, 3))["params"]
    np.testing.assert_allclose(params["conv1_2"]["kernel"].std(), (2 / (9 * 64)) ** 0.5, rtol=0.02)
    np.testing.assert_allclose(params["conv3_1"]["kernel"].std(), (2 / (9 * 256)) ** 0.5, rtol=0.02)
    np.testing.assert_allclose(params["fc"]["kernel"].std(), 0.01, rtol=0.02)
    for name in ("conv1_2", "conv3_1", "fc"):
        assert not params[name]["bias"].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "size"),
    [
        pytest.param(models.Network(models.ResNet(5, (1, 1), models.resnet.Bottleneck)), 16, id="bottleneck"),
        pytest.param(models.Network(models.ResNet(5, (1, 1), small_images=False)), 32, id="imagenet-stem"),
        pytest.param(models.Network(models.WRN(5, depth=10, width=1)), 16, id="wrn"),
    ],
)
def test_a_few_steps_of_descent_fit_a_batch(network, size):
    variables = jax.jit(network.init, static_argnums=1)(jax.random.key(0), (size, size, 3))
    x, labels = jax.random.uniform(jax.random.key(1), (5, size, size, 3)), jnp.eye(5)

    def loss(params, variables):
        logits, variables = network.train({**variables, "params": params}, x)
        return -(labels * jax.nn.log_softmax(logits)).sum(-1).mean(), variables

    @jax.jit
    def step(variables):
        (value, updated), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"], variables)
        return value, updated | {"params": jax.tree.map(lambda p, g: p - 0.05 * g, variables["params"], gradient)}

    first, variables = step(variables)
    for _ in range(40):
        last, variables = step(variables)
    assert last < 0.5 * first
