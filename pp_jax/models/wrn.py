"""Wide residual networks for 32×32 colour images."""

import flax.linen as nn
import jax

from pp_jax.models.layers import Classifier, batch_norm, build, he_conv, uniform_kernel
from pp_jax.models.network import Network


class WideBlock(nn.Module):
    """x + C(relu(N(C(relu(N(x)))))) with two 3×3 convolutions; a projected shortcut starts after the first ReLU."""

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(B, H, W, C) to (B, H/stride, W/stride, channels)."""
        y = nn.relu(batch_norm(x, train=train, name="norm1"))
        if x.shape[-1] != self.channels:
            x = he_conv(self.channels, y, size=1, stride=self.stride, name="shortcut")
        y = he_conv(self.channels, y, stride=self.stride, name="conv1")
        y = nn.relu(batch_norm(y, train=train, name="norm2"))
        return x + he_conv(self.channels, y, name="conv2")


class WRN(Classifier):
    """Pre-activation residual network of three stages with 16·w, 32·w and 64·w channels, mean over positions, Dense K.

    Convolution kernels start N(0, 2/(kh·kw·c_out)); the Dense layer has a kernel uniform on ±1/√fan_in and a zero
    bias. Source: Zagoruyko & Komodakis (2016), without dropout.

    Args:
        num_classes: K.
        depth: number of layers, 6·n + 4 for n blocks a stage.
        width: w, the factor by which the stages are widened.
    """

    num_classes: int = 10
    depth: int = 40
    width: int = 2

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Features (B, 64·w) and logits (B, K)."""
        if self.depth < 10 or (self.depth - 4) % 6:
            raise ValueError(f"depth={self.depth} must be 6·n + 4 with n at least 1.")
        if min(x.shape[1:3]) < 4:
            raise ValueError(f"image shape {x.shape[1:]} must be at least 4 pixels high and wide for WRN.")
        x = he_conv(16, x, name="conv1")
        for i in range(3):
            for j in range((self.depth - 4) // 6):
                stride = 2 if i > 0 and j == 0 else 1
                x = WideBlock(16 * 2**i * self.width, stride, name=f"stage{i + 1}_block{j + 1}")(x, train=train)
        features = nn.relu(batch_norm(x, train=train, name="norm")).mean(axis=(1, 2))
        dense = nn.Dense(self.num_classes, kernel_init=uniform_kernel, name="fc")
        return features, dense(features)


def wrn_40_2(num_classes: int = 10, *, mean: tuple[float, ...] = (0.0,), std: tuple[float, ...] = (1.0,)) -> Network:
    """WRN-40-2 for images of about 32×32.

    Args:
        num_classes: K, at least 1.
        mean: per-channel mean in pixel units, subtracted inside the network.
        std: per-channel standard deviation in pixel units, divided by inside the network.

    Returns:
        The network.

    Raises:
        ValueError: if `num_classes` is below 1, or `mean` and `std` do not fit together.
    """
    return build(WRN(num_classes), num_classes, mean, std)
