"""Residual networks with 18, 34 and 50 layers."""

from collections.abc import Callable

import flax.linen as nn
import jax

from pp_jax.models.layers import Classifier, batch_norm, build, he_conv, uniform_dense
from pp_jax.models.network import Network


class BasicBlock(nn.Module):
    """relu(x + N(C(relu(N(C(x)))))) with two 3×3 convolutions; the shortcut is projected where shapes differ."""

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(B, H, W, C) to (B, H/stride, W/stride, channels)."""
        y = he_conv(self.channels, x, stride=self.stride, name="conv1")
        y = nn.relu(batch_norm(y, train=train, name="norm1"))
        y = batch_norm(he_conv(self.channels, y, name="conv2"), train=train, name="norm2")
        return nn.relu(y + _shortcut(x, self.channels, self.stride, train=train))


class Bottleneck(nn.Module):
    """Residual block of 1×1, 3×3 (strided) and 1×1 convolutions, four times as wide outside as inside."""

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(B, H, W, C) to (B, H/stride, W/stride, 4·channels)."""
        y = nn.relu(batch_norm(he_conv(self.channels, x, size=1, name="conv1"), train=train, name="norm1"))
        y = he_conv(self.channels, y, stride=self.stride, name="conv2")
        y = nn.relu(batch_norm(y, train=train, name="norm2"))
        y = batch_norm(he_conv(4 * self.channels, y, size=1, name="conv3"), train=train, name="norm3")
        return nn.relu(y + _shortcut(x, 4 * self.channels, self.stride, train=train))


def _shortcut(x: jax.Array, channels: int, stride: int, *, train: bool) -> jax.Array:
    """x, or its 1×1 projection where the block changes the shape."""
    if stride == 1 and x.shape[-1] == channels:
        return x
    x = he_conv(channels, x, size=1, stride=stride, name="shortcut_conv")
    return batch_norm(x, train=train, name="shortcut_norm")


class ResNet(Classifier):
    """Stem, four stages of residual blocks (64, 128, 256, 512 channels), mean over positions, Dense K.

    The ImageNet stem is a 7×7 convolution and a 3×3 max-pool, each with stride 2; the small-image stem one 3×3
    convolution. Convolution kernels start N(0, 2/(kh·kw·c_out)); the Dense layer uniform on ±1/√fan_in. In a
    bottleneck the 3×3 convolution carries the stride, as in torchvision. Source: He et al. (2016).

    Args:
        num_classes: K.
        stage_sizes: blocks in each of the four stages.
        block: `BasicBlock` or `Bottleneck`.
        small_images: use the stem for images of about 32×32.
    """

    num_classes: int = 10
    stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
    block: Callable[..., nn.Module] = BasicBlock
    small_images: bool = True

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Features, (B, 512) or for bottlenecks (B, 2048), and logits (B, K)."""
        smallest = 8 if self.small_images else 32
        if min(x.shape[1:3]) < smallest:
            raise ValueError(f"image shape {x.shape[1:]} must be at least {smallest} pixels high and wide for ResNet.")
        x = he_conv(64, x, name="conv1") if self.small_images else he_conv(64, x, size=7, stride=2, name="conv1")
        x = nn.relu(batch_norm(x, train=train, name="norm1"))
        if not self.small_images:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for i, blocks in enumerate(self.stage_sizes):
            for j in range(blocks):
                stride = 2 if i > 0 and j == 0 else 1
                x = self.block(64 * 2**i, stride, name=f"stage{i + 1}_block{j + 1}")(x, train=train)
        features = x.mean(axis=(1, 2))
        return features, uniform_dense(self.num_classes, features, name="fc")


def resnet18(
    num_classes: int = 10,
    *,
    small_images: bool = True,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
) -> Network:
    """ResNet-18.

    Args:
        num_classes: K, at least 1.
        small_images: stem for images of about 32×32 (at least 8×8) instead of ImageNet's (at least 32×32).
        mean: per-channel mean in pixel units, subtracted inside the network.
        std: per-channel standard deviation in pixel units, divided by inside the network.

    Returns:
        The network.

    Raises:
        ValueError: if `num_classes` is below 1, or `mean` and `std` do not fit together.
    """
    return build(ResNet(num_classes, (2, 2, 2, 2), BasicBlock, small_images), num_classes, mean, std)


def resnet34(
    num_classes: int = 10,
    *,
    small_images: bool = True,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
) -> Network:
    """ResNet-34; arguments, result and errors as in `resnet18`."""
    return build(ResNet(num_classes, (3, 4, 6, 3), BasicBlock, small_images), num_classes, mean, std)


def resnet50(
    num_classes: int = 10,
    *,
    small_images: bool = True,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
) -> Network:
    """ResNet-50; arguments, result and errors as in `resnet18`."""
    return build(ResNet(num_classes, (3, 4, 6, 3), Bottleneck, small_images), num_classes, mean, std)
