"""VGG-16 with batch normalisation, the paper's network for colour images."""

import flax.linen as nn
import jax

from pp_jax.models.conv import max_pool_2x2
from pp_jax.models.layers import Classifier, batch_norm, build, he_conv
from pp_jax.models.network import Network

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16BN(Classifier):
    """Thirteen 3×3 convolutions (configuration D), each with batch norm and ReLU, in five max-pooled blocks.

    At 32×32 one Dense layer 512→K follows; at 224×224 the original head of 4096, 4096 and K units, without its
    dropout, so that a training step needs no key. Convolution kernels start N(0, 2/(9·c_out)) and Dense kernels
    N(0, .01²); biases start at 0. Source: Simonyan & Zisserman (2015), as used by Orekondy et al. (2020).

    Args:
        num_classes: K.
        image_size: height and width of the images, 32 or 224.
    """

    num_classes: int = 10
    image_size: int = 32

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Features, (B, 512) at 32×32 or (B, 4096) at 224×224, and logits (B, K)."""
        if x.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(f"image shape {x.shape[1:]} must be {self.image_size} pixels high and wide for VGG16BN.")
        for i, block in enumerate(BLOCKS, start=1):
            for j, channels in enumerate(block, start=1):
                x = he_conv(channels, x, bias=True, name=f"conv{i}_{j}")
                x = batch_norm(x, train=train, name=f"norm{i}_{j}")
                # The last ReLU of a block commutes with the pooling, which leaves it a quarter of the entries.
                x = nn.relu(x if j < len(block) else max_pool_2x2(x))
        x = x.reshape(x.shape[0], -1)
        if self.image_size == 224:
            x = nn.relu(_dense(4096, x, name="fc1"))
            x = nn.relu(_dense(4096, x, name="fc2"))
        return x, _dense(self.num_classes, x, name="fc")


def _dense(units: int, x: jax.Array, *, name: str) -> jax.Array:
    """Dense layer with an N(0, .01²) kernel."""
    return nn.Dense(units, kernel_init=nn.initializers.normal(0.01), name=name)(x)


def vgg16_bn(
    num_classes: int = 10,
    *,
    image_size: int = 32,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
) -> Network:
    """VGG-16 with batch norm for (32, 32, 3) or (224, 224, 3) images.

    Args:
        num_classes: K, at least 1.
        image_size: height and width of the images, 32 or 224.
        mean: per-channel mean in pixel units, subtracted inside the network.
        std: per-channel standard deviation in pixel units, divided by inside the network.

    Returns:
        The network.

    Raises:
        ValueError: if `num_classes` is below 1, `image_size` is another, or `mean` and `std` do not fit together.
    """
    if image_size not in (32, 224):
        raise ValueError(f"image_size={image_size} must be 32 or 224.")
    return build(VGG16BN(num_classes, image_size), num_classes, mean, std)
