"""Forward passes of the models on a CPU against PyTorch's and against the plain convolution.

    python benchmarks/forward.py        # about 1 minute on 2 cores; needs pip install 'pp-jax[bench]'

Every row compares two programs that must agree, by turns, on the same images and weights. Expected:
VGG16-BN at most 1.15 × PyTorch's time, alone or under vmap; LeNet under vmap at most 1.15 × the plain convolution's.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import lax

from harness import Row, agree, compared, report, torch_reference
from pp_jax import models


def vgg_rows(repeats: int, batch: int = 64) -> list[Row]:
    """VGG16-BN against PyTorch: the batched module, and the function of one image under vmap."""
    reference = torch_reference()
    network = models.vgg16_bn(10)
    variables = jax.jit(network.init, static_argnums=1)(jax.random.key(0), (32, 32, 3))
    images = jax.random.uniform(jax.random.key(1), (batch, 32, 32, 3))
    module, pixels = reference.twin(network, variables), reference.pixels(images)

    def theirs() -> Any:
        with reference.torch.inference_mode():
            return module(pixels)

    forms: dict[str, Callable[..., Any]] = {
        "batch": network.module.apply,
        "vmap of one image": jax.vmap(network, (None, 0)),
    }
    rows = []
    for form, function in forms.items():
        name = f"VGG16-BN forward, {batch} images, {form} / PyTorch"
        ours = functools.partial(jax.jit(function), variables, images)
        agree(name, ours(), theirs())
        rows.append(compared(name, ours, theirs, 1.15, repeats=repeats))
    return rows


class PlainLeNet(nn.Module):
    """LeNet's function written with Flax's own layers and the same parameter names."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (B, 10) of images (B, H, W, 1)."""
        for channels, name in ((20, "conv1"), (50, "conv2")):
            x = nn.max_pool(nn.relu(nn.Conv(channels, (5, 5), padding="VALID", name=name)(x)), (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(500, name="fc1")(x.reshape(x.shape[0], -1)))
        return nn.Dense(10, name="fc2")(x)


def lenet_rows(repeats: int, batch: int = 256) -> list[Row]:
    """LeNet, a function of one image under vmap, against the plain convolution on the batch."""
    network = models.lenet(10)
    variables = network.init(jax.random.key(0), (28, 28, 1))
    images = jax.random.uniform(jax.random.key(1), (batch, 28, 28, 1))
    mapped, plain = (
        functools.partial(jax.jit(function), variables, images)
        for function in (jax.vmap(network, (None, 0)), PlainLeNet().apply)
    )
    name = f"LeNet forward, {batch} images, vmap of one image / plain batch"
    agree(name, mapped(), plain())
    return [compared(name, mapped, plain, 1.15, repeats=repeats)]


def cliff_rows(repeats: int, batch: int = 64) -> list[Row]:
    """The 3×3 convolution of 2×2×512 images against the plain one."""
    images = jax.random.normal(jax.random.key(0), (batch, 2, 2, 512))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 512, 512))
    options: dict[str, Any] = {
        "window_strides": (1, 1),
        "padding": "SAME",
        "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
    }
    ours, plain = (
        functools.partial(jax.jit(functools.partial(function, **options)), images, kernel)
        for function in (models.conv, lax.conv_general_dilated)
    )
    name = f"3×3 convolution of {batch} images 2×2×512 / plain"
    agree(name, ours(), plain())
    return [compared(name, ours, plain, 0.1, repeats=max(3, repeats // 5))]


def rows(repeats: int = 15) -> list[Row]:
    """All comparisons of this script."""
    return vgg_rows(repeats) + lenet_rows(4 * repeats) + cliff_rows(repeats)


if __name__ == "__main__":
    if jax.default_backend() != "cpu":
        print(f"Note: JAX runs on {jax.default_backend()}, PyTorch on the CPU; set JAX_PLATFORMS=cpu to compare alike.")
    report(rows())
