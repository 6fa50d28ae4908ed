"""The perceptron that learns to map answers back to posteriors."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pp_jax.pytree import pytree
from pp_jax.training.recipe import Recipe

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
    """A trained map from answers (N, K) to posteriors (N, K).

    Attributes:
        layers: the hidden layers and the last, which is not normalised.
        statistics: of the hidden layers.
    """

    layers: list[Layer]
    statistics: Statistics

    def __call__(self, answers: jax.Array) -> jax.Array:
        """Posteriors for (N, K) answers."""
        return jax.nn.softmax(_forward(self.layers, answers, self.statistics)[0])


def learn(key: jax.Array, seen: jax.Array, probs: jax.Array, *, hidden: tuple[int, ...], recipe: Recipe) -> Recovery:
    """Minimise the mean of ‖f(ỹ) − y‖₁ (K times the mean absolute error) over pairs.

    Args:
        key: randomness of initialisation and order.
        seen: ỹ, (P, K), P ≥ 2.
        probs: y, (P, K).
        hidden: units of each hidden layer: dense, batch normalisation, leaky ReLU of slope .2.
        recipe: epochs, batch size, learning rate and momentum.
    """
    init_key, order_key = jax.random.split(key)
    batch = min(recipe.batch_size, len(seen))
    steps = len(seen) // batch
    optimizer = recipe.optimizer(steps)
    layers, statistics = start(init_key, seen.shape[-1], hidden, seen.dtype)
    carry = (layers, statistics, optimizer.init(layers))
    for number in range(recipe.epochs):
        order = jax.random.permutation(jax.random.fold_in(order_key, number), len(seen))
        carry = _epoch(carry, seen, probs, order[: steps * batch].reshape(steps, batch), recipe, steps)
    return Recovery(carry[0], carry[1])


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


def _loss(layers: list[Layer], seen: jax.Array, probs: jax.Array) -> tuple[jax.Array, Statistics]:
    """Mean L1 distance of a batch, and its statistics."""
    logits, used = _forward(layers, seen, None)
    return jnp.mean(jnp.sum(jnp.abs(jax.nn.softmax(logits) - probs), axis=-1)), used


@functools.partial(jax.jit, static_argnames=("recipe", "steps"), donate_argnums=0)
def _epoch(carry: Any, seen: jax.Array, probs: jax.Array, order: jax.Array, recipe: Recipe, steps: int) -> Any:
    """One pass over the pairs: these layers are small enough for a loop to be fast on every back end."""
    optimizer = recipe.optimizer(steps)
    gradient: Callable[..., Any] = jax.grad(_loss, has_aux=True)

    def step(carry: Any, index: jax.Array) -> tuple[Any, None]:
        layers, statistics, state = carry
        change, used = gradient(layers, seen[index], probs[index])
        change, state = optimizer.update(change, state, layers)
        statistics = jax.tree.map(lambda old, new: _KEEP * old + (1 - _KEEP) * new, statistics, used)
        return (optax.apply_updates(layers, change), statistics, state), None

    return jax.lax.scan(step, carry, order)[0]
