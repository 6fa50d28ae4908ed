"""Layers and initialisers that several networks share."""

import flax.linen as nn
import jax
from jax.nn.initializers import variance_scaling

from pp_jax.models.conv import conv
from pp_jax.models.network import Network

# Variance 1/(3·fan_in) makes a uniform distribution end at ±1/√fan_in: PyTorch's default.
uniform_kernel = variance_scaling(1 / 3, "fan_in", "uniform")
# Normal with variance 2/(kh·kw·c_out), not truncated: He et al. (2015), backward form.
he_kernel = variance_scaling(2.0, "fan_out", "normal")


class Classifier(nn.Module):
    """A module whose `forward` finds features and logits in one pass, of which each other method returns one."""

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits (B, K) of images (B, H, W, C)."""
        return self.forward(x, train=train)[1]

    def features(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Input (B, F) of the last layer for images (B, H, W, C)."""
        return self.forward(x, train=train)[0]

    def forward(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Features (B, F) and logits (B, K) of images (B, H, W, C)."""
        raise NotImplementedError


def uniform_bias(fan_in: int) -> nn.initializers.Initializer:
    """Initialiser that is uniform on ±1/√fan_in: PyTorch's default."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


def uniform_dense(units: int, x: jax.Array, *, name: str) -> jax.Array:
    """Dense layer whose kernel and bias start uniform on ±1/√fan_in."""
    return nn.Dense(units, kernel_init=uniform_kernel, bias_init=uniform_bias(x.shape[-1]), name=name)(x)


def he_conv(channels: int, x: jax.Array, *, size: int = 3, stride: int = 1, bias: bool = False, name: str) -> jax.Array:
    """Centred `size`×`size` convolution with He's normal initialisation."""
    return nn.Conv(
        channels,
        (size, size),
        strides=stride,
        padding=size // 2,
        use_bias=bias,
        kernel_init=he_kernel,
        conv_general_dilated=conv,
        name=name,
    )(x)


def batch_norm(x: jax.Array, *, train: bool, name: str) -> jax.Array:
    """Batch normalisation with PyTorch's default constants."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)(x)


def build(module: nn.Module, num_classes: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Network:
    """The network of a module, after a check of its number of classes."""
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} must be at least 1.")
    return Network(module, mean=mean, std=std)
