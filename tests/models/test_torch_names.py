"""Every network finds its arrays under PyTorch's names, and lays them out as it needs them; misfits are named."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from pp_jax import models
from pp_jax.models import torch_names
from torch_files import lenet_state, state_code, zip_file

NORM = ("weight", "bias", "running_mean", "running_var")
LENET = {f"{layer}.{leaf}" for layer in ("conv1", "conv2", "fc1", "fc2") for leaf in ("weight", "bias")}


def norms(*layers):
    return {f"{layer}.{leaf}" for layer in layers for leaf in NORM}


def vgg_names(*dense):
    """torchvision's: positions of the convolutions in a sequence with pooling layers."""
    convolutions = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
    layers = [*(f"features.{i}" for i in convolutions), *dense]
    return {f"{layer}.{leaf}" for layer in layers for leaf in ("weight", "bias")} | norms(
        *(f"features.{i + 1}" for i in convolutions)
    )


def resnet_names(blocks, convolutions, projected):
    """torchvision's: `convolutions` in each block, a projection in the first block of some stages."""
    names = {"conv1.weight", "fc.weight", "fc.bias"} | norms("bn1")
    for layer, count in enumerate(blocks, start=1):
        for block in range(count):
            prefix = f"layer{layer}.{block}"
            names |= {f"{prefix}.conv{i}.weight" for i in range(1, convolutions + 1)}
            names |= norms(*(f"{prefix}.bn{i}" for i in range(1, convolutions + 1)))
            if block == 0 and layer in projected:
                names |= {f"{prefix}.downsample.0.weight"} | norms(f"{prefix}.downsample.1")
    return names


def wrn_names():
    """Three blocks of six layers, the first of each with a projection."""
    names = {"conv1.weight", "fc.weight", "fc.bias"} | norms("bn1")
    for prefix in (f"block{i}.layer.{j}" for i in (1, 2, 3) for j in range(6)):
        names |= {f"{prefix}.conv1.weight", f"{prefix}.conv2.weight"} | norms(f"{prefix}.bn1", f"{prefix}.bn2")
    return names | {f"block{i}.layer.0.convShortcut.weight" for i in (1, 2, 3)}


NETWORKS = [
    # The counts are those of torchvision's state dicts without num_batches_tracked.
    pytest.param(models.lenet(), (28, 28, 1), LENET, 8, id="lenet"),
    pytest.param(models.vgg16_bn(), (32, 32, 3), vgg_names("classifier"), 80, id="vgg16_bn-32"),
    pytest.param(
        models.vgg16_bn(1000, image_size=224),
        (224, 224, 3),
        vgg_names("classifier.0", "classifier.3", "classifier.6"),
        84,
        id="vgg16_bn-224",
    ),
    pytest.param(models.resnet18(), (32, 32, 3), resnet_names((2, 2, 2, 2), 2, (2, 3, 4)), 102, id="resnet18"),
    pytest.param(models.resnet34(), (32, 32, 3), resnet_names((3, 4, 6, 3), 2, (2, 3, 4)), 182, id="resnet34"),
    pytest.param(models.resnet50(), (32, 32, 3), resnet_names((3, 4, 6, 3), 3, (1, 2, 3, 4)), 267, id="resnet50"),
    pytest.param(models.wrn_40_2(), (32, 32, 3), wrn_names(), 190, id="wrn_40_2"),
]


@pytest.mark.parametrize(("network", "shape", "names", "count"), NETWORKS)
def test_names_are_those_of_pytorch(network, shape, names, count):
    like = jax.eval_shape(functools.partial(network.init, image_shape=shape), jax.random.key(0))
    paths = [tuple(key.key for key in path) for path, _ in jax.tree_util.tree_flatten_with_path(like)[0]]
    found = [torch_names.torch_name(network.module, path) for path in paths]
    assert len(found) == len(set(found)) == count
    assert set(found) == names


def channels_first(state, images):
    """LeNet as PyTorch computes it: images (B, C, H, W), kernels OIHW, flattened in the order C, H, W."""
    for layer in ("conv1", "conv2"):
        images = lax.conv(images, state[f"{layer}.weight"], (1, 1), "VALID") + state[f"{layer}.bias"][:, None, None]
        images = jax.nn.relu(lax.reduce_window(images, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"))
    hidden = jax.nn.relu(images.reshape(len(images), -1) @ state["fc1.weight"].T + state["fc1.bias"])
    return hidden @ state["fc2.weight"].T + state["fc2.bias"]


@pytest.fixture(scope="module")
def lenet_file(tmp_path_factory):
    path, state = tmp_path_factory.mktemp("lenet") / "lenet.pt", lenet_state()
    return zip_file(path, *state_code(state)), state


def test_kernels_and_the_flattened_images_change_their_layout(lenet_file):
    path, state = lenet_file
    network = models.lenet()
    variables = models.from_torch(path, network, (28, 28, 1))
    images = jax.random.uniform(jax.random.key(0), (3, 28, 28, 1))
    with jax.numpy_rank_promotion("allow"):
        expected = jax.jit(channels_first)(state, images.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(jax.vmap(network, (None, 0))(variables, images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_variables_are_those_of_init_in_structure_and_type():
    network = models.Network(models.WRN(num_classes=3, depth=10, width=1))
    like = jax.eval_shape(functools.partial(network.init, image_shape=(8, 8, 3)), jax.random.key(0))
    state = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(like)[0]:
        shape = leaf.shape[::-1] if leaf.ndim < 4 else (*leaf.shape[:1:-1], *leaf.shape[:2])
        name = torch_names.torch_name(network.module, tuple(key.key for key in path))
        # Other floating-point types are converted, and what counts batches is left out.
        state |= {name: np.full(shape, 0.5, np.float16), f"{name}.num_batches_tracked": np.array(3)}
    variables = torch_names.convert(state, network, (8, 8, 3))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), like
    )
    assert network(variables, jnp.zeros((8, 8, 3))).shape == (3,)


def without(state, *names):
    return {name: array for name, array in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: without(state, "fc1.bias"), r"LeNet: it lacks fc1\.bias$"),
        (lambda state: state | {"fc3.bias": np.zeros(3)}, r"it has besides fc3\.bias$"),
        (
            lambda state: lenet_state(classes=7),
            r"fc2\.bias is float32\[7\], not float\[10\].*fc2\.weight is float32\[7, 5",
        ),
        (lambda state: state | {"fc1.bias": np.zeros(500, np.int64)}, r"fc1\.bias is int64\[500\], not float"),
        (lambda state: {f"net.{name}": array for name, array in state.items()}, r"lacks.* and 3 more; it has besides"),
    ],
)
def test_missing_surplus_and_misshapen_tensors_are_named_in_one_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        torch_names.convert(change(lenet_state()), models.lenet(), (28, 28, 1))


def test_a_network_of_ones_own_has_no_names_in_pytorch():
    with pytest.raises(ValueError, match="Bottleneck must be LeNet, VGG16BN, ResNet or WRN"):
        torch_names.torch_name(models.resnet.Bottleneck(8), ("params", "conv1", "kernel"))
