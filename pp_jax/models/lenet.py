"""LeNet, the paper's network for 28×28 grey images."""

from typing import Any

import flax.linen as nn
import jax

from pp_jax.models.conv import conv, max_pool_2x2
from pp_jax.models.layers import Classifier, build, uniform_bias, uniform_kernel
from pp_jax.models.network import Network


class LeNet(Classifier):
    """Two 5×5 convolutions (20 and 50 channels), each with 2×2 max-pooling and ReLU, then Dense 500, ReLU, Dense K.

    Source: LeCun et al. (1998), as used by Orekondy et al. (2020).

    Args:
        num_classes: K.
        published_init: start kernels and biases uniform on ±1/√fan_in, PyTorch's default and so that of the published
            code, in place of Flax's (LeCun's normal kernels of three times that variance, biases zero). It matters for
            an untrained surrogate: the smaller the weights, the closer is its posterior to uniform.
    """

    num_classes: int = 10
    published_init: bool = False

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Features (B, 500) and logits (B, K)."""
        del train
        if min(x.shape[1:3]) < 16:
            raise ValueError(f"image shape {x.shape[1:]} must be at least 16 pixels high and wide for LeNet.")
        # ReLU after the pooling is the same function as before it, on a quarter of the entries.
        x = nn.relu(max_pool_2x2(self._conv_5x5(20, x, name="conv1")))
        x = nn.relu(max_pool_2x2(self._conv_5x5(50, x, name="conv2")))
        features = nn.relu(self._dense(500, x.reshape(x.shape[0], -1), name="fc1"))
        return features, self._dense(self.num_classes, features, name="fc2")

    def _conv_5x5(self, channels: int, x: jax.Array, *, name: str) -> jax.Array:
        """Unpadded 5×5 convolution."""
        init = self._init(25 * x.shape[-1])
        return nn.Conv(channels, (5, 5), padding="VALID", conv_general_dilated=conv, name=name, **init)(x)

    def _dense(self, units: int, x: jax.Array, *, name: str) -> jax.Array:
        """Dense layer."""
        return nn.Dense(units, name=name, **self._init(x.shape[-1]))(x)

    def _init(self, fan_in: int) -> dict[str, Any]:
        """Initialisers of a layer; none are Flax's own."""
        return {"kernel_init": uniform_kernel, "bias_init": uniform_bias(fan_in)} if self.published_init else {}


def lenet(
    num_classes: int = 10,
    *,
    published_init: bool = False,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
) -> Network:
    """LeNet for (28, 28, 1) images; other sizes from 16×16 up, and other channel counts, also work.

    Args:
        num_classes: K, at least 1.
        published_init: PyTorch's default initialisation, as in the published code, in place of Flax's.
        mean: per-channel mean in pixel units, subtracted inside the network.
        std: per-channel standard deviation in pixel units, divided by inside the network.

    Returns:
        The network.

    Raises:
        ValueError: if `num_classes` is below 1, or `mean` and `std` do not fit together.
    """
    return build(LeNet(num_classes, published_init), num_classes, mean, std)
