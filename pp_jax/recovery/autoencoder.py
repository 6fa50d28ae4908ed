"""The perceptron that learns to map answers back to posteriors."""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pp_jax.pytree import pytree
from pp_jax.training import Recipe, Trainable, fit
from pp_jax.types import Params

# Batch normalisation: the share of the old statistics that a step keeps, and what is added to a variance.
_KEEP, _TINY = 0.9, 1e-5
_SLOPE = 0.2


class Layer(NamedTuple):
    """A dense layer with the normalisation of its output: kernel (F, D), bias, scale and shift (D,)."""

    kernel: jax.Array
    bias: jax.Array
    scale: jax.Array
    shift: jax.Array


Statistics = list[tuple[jax.Array, jax.Array]]
"""Running mean and variance of every hidden layer."""


@pytree
@dataclasses.dataclass(frozen=True)
class Recovery:
    """A trained map from responses (N, K) to posteriors (N, K).

    Attributes:
        layers: the hidden layers and the last, which is not normalised.
        statistics: of the hidden layers.
    """

    layers: list[Layer]
    statistics: Statistics

    def __call__(self, answers: jax.Array) -> jax.Array:
        """Posteriors for (N, K) responses."""
        return jax.nn.softmax(_forward(self.layers, answers, self.statistics)[0])


@dataclasses.dataclass(frozen=True)
class Perceptron:
    """The network as `training.fit` takes it: dense layers, batch normalisation, leaky ReLU, over vectors (K,).

    Attributes:
        hidden: units of each hidden layer.
        dtype: of the parameters.
    """

    hidden: tuple[int, ...]
    dtype: Any

    @property
    def vmapped(self) -> "Perceptron":
        """Itself."""
        return self

    def init(self, key: jax.Array, image_shape: tuple[int, ...]) -> Params:
        """Fresh layers for vectors of a shape (K,), and the statistics of nothing seen."""
        layers, statistics = start(key, image_shape[-1], self.hidden, self.dtype)
        return {"params": layers, "batch_stats": statistics}

    def train(self, params: Params, images: jax.Array) -> tuple[jax.Array, Params]:
        """Logits (B, K) of a batch of vectors (B, K), and the parameters with the statistics a step on."""
        logits, used = _forward(params["params"], images, None)
        statistics = jax.tree.map(lambda old, new: _KEEP * old + (1 - _KEEP) * new, params["batch_stats"], used)
        return logits, {**params, "batch_stats": statistics}


@dataclasses.dataclass(frozen=True)
class L1:
    """The loss (1/B) Σ_b ‖softmax(z_b) − y_b‖₁."""

    def __call__(
        self, network: Trainable, params: Params, images: jax.Array, targets: jax.Array, unlabelled: Any, key: Any
    ) -> tuple[jax.Array, Params]:
        """The loss, and the parameters with updated batch statistics."""
        del unlabelled, key
        logits, updated = network.train(params, images)
        return jnp.mean(jnp.sum(jnp.abs(jax.nn.softmax(logits) - targets), axis=-1)), updated


def learn(key: jax.Array, seen: jax.Array, probs: jax.Array, *, hidden: tuple[int, ...], recipe: Recipe) -> Recovery:
    """Minimise the mean of ‖f(ỹ) − y‖₁ (K times the mean absolute error) over pairs.

    Args:
        key: randomness of initialisation and order.
        seen: ỹ, (P, K), P ≥ 2.
        probs: y, (P, K).
        hidden: units of each hidden layer: dense, batch normalisation, leaky ReLU of slope 0.2.
        recipe: epochs, batch size, learning rate and momentum.

    Returns:
        The map from responses to posteriors.
    """
    # Layers as small as these are fast in a loop on every back end: an epoch is one program.
    network = Perceptron(hidden, seen.dtype)
    params = fit(key, network, seen, probs, recipe, loss=L1(), steps_per_call=len(seen))
    return Recovery(params["params"], params["batch_stats"])


def start(key: jax.Array, classes: int, hidden: tuple[int, ...], dtype: Any) -> tuple[list[Layer], Statistics]:
    """Fresh layers (He's normal distribution) and the statistics of nothing seen."""
    sizes = (classes, *hidden, classes)
    layers = []
    for index, (into, out) in enumerate(itertools.pairwise(sizes)):
        kernel = jnp.sqrt(2 / into).astype(dtype) * jax.random.normal(
            jax.random.fold_in(key, index), (into, out), dtype
        )
        layers.append(Layer(kernel, jnp.zeros(out, dtype), jnp.ones(out, dtype), jnp.zeros(out, dtype)))
    return layers, [(jnp.zeros(units, dtype), jnp.ones(units, dtype)) for units in hidden]


def _forward(layers: list[Layer], x: jax.Array, statistics: Statistics | None) -> tuple[jax.Array, Statistics]:
    """Logits of a batch and the statistics used: those given, else the batch's own."""
    used = []
    for index, layer in enumerate(layers[:-1]):
        x = x @ layer.kernel + layer.bias[None]
        mean, variance = (jnp.mean(x, 0), jnp.var(x, 0)) if statistics is None else statistics[index]
        used.append((mean, variance))
        x = (x - mean[None]) * (layer.scale * jax.lax.rsqrt(variance + _TINY))[None] + layer.shift[None]
        x = jax.nn.leaky_relu(x, _SLOPE)
    return x @ layers[-1].kernel + layers[-1].bias[None], used
