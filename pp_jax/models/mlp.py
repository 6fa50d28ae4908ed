"""A perceptron: the cheapest attacker of another architecture than the victim's."""

import flax.linen as nn
import jax

from pp_jax.models.layers import Classifier, build
from pp_jax.models.network import Network


class MLP(Classifier):
    """Dense layers with ReLU over the pixels, then Dense K; Flax's default initialisation.

    Args:
        num_classes: K.
        hidden: units of each hidden layer.
    """

    num_classes: int = 10
    hidden: tuple[int, ...] = (512, 512)

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Features (B, F) and logits (B, K)."""
        del train
        x = x.reshape(x.shape[0], -1)
        for index, units in enumerate(self.hidden, start=1):
            x = nn.relu(nn.Dense(units, name=f"fc{index}")(x))
        return x, nn.Dense(self.num_classes, name="fc")(x)


def mlp(
    num_classes: int = 10,
    *,
    hidden: tuple[int, ...] = (512, 512),
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
) -> Network:
    """A perceptron for images of any shape.

    Args:
        num_classes: K, at least 1.
        hidden: units of each hidden layer, at least one layer.
        mean: per-channel mean in pixel units, subtracted inside the network.
        std: per-channel standard deviation in pixel units, divided by inside the network.

    Returns:
        The network.

    Raises:
        ValueError: if `num_classes` or a number of units is below 1, there is no hidden layer, or `mean` and `std` do
            not fit together.
    """
    if not hidden or min(hidden) < 1:
        raise ValueError(f"hidden={hidden} must hold at least one number of units, each at least 1.")
    return build(MLP(num_classes, hidden), num_classes, mean, std)
