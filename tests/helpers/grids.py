"""A small network with a convolution, for what looks at the layers of a network."""

import functools

import flax.linen as nn

from pp_jax.models.layers import Classifier
from pp_jax.models.network import Network


class Grid(Classifier):
    """A convolution, its features, and classes."""

    num_classes: int = 4

    @nn.compact
    def forward(self, x, *, train):
        """Features and logits."""
        del train
        x = nn.relu(nn.Conv(3, (3, 3), name="conv")(x))
        features = nn.relu(nn.Dense(6, name="fc1")(x.reshape(x.shape[0], -1)))
        return features, nn.Dense(self.num_classes, name="fc2")(features)


@functools.cache
def grid(classes=4):
    """The network."""
    return Network(Grid(classes))
