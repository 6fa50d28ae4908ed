"""Many small networks that differ in how they are built and trained, as one program: what attributes are learned from.

Every network is a perceptron of `DEPTH` hidden layers of `WIDTH` units under masks, and what differs is data, not
structure: the activation is a mixture with one weight of 1, layers and units beyond its own are skipped, a batch is a
part of the largest one, and the optimiser's step is one of three. So `training.fit_many` trains them all together.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pp_jax._checks import as_labels, as_pixels, check_count, check_random_key
from pp_jax.training import Recipe, Sets, Trainable, fit_many
from pp_jax.types import Params

ATTRIBUTES: dict[str, tuple[Any, ...]] = {
    "activation": ("relu", "leaky relu", "elu", "tanh"),
    "hidden layers": (1, 2, 3),
    "hidden units": (8, 16, 32),
    "dropout": (0.0, 0.25),
    "optimiser": ("sgd", "adam", "rmsprop"),
    "batch size": (16, 32, 64),
    "training images": (512, 8192),
}
"""What networks differ in, and the values that each attribute takes."""

DEPTH, WIDTH, BATCH = (max(ATTRIBUTES[name]) for name in ("hidden layers", "hidden units", "batch size"))


class Population(NamedTuple):
    """T trained networks.

    Attributes:
        network: their common form.
        params: their parameters, every leaf with a leading axis T.
        attributes: by name, which value each network has, (T,) indices into `ATTRIBUTES[name]`.
    """

    network: "Masked"
    params: Params
    attributes: Mapping[str, np.ndarray]

    def posteriors(self, images: Any) -> np.ndarray:
        """Posteriors of all networks at all images, (T, Q, K)."""
        return np.asarray(_posteriors(self.network, self.params, jnp.asarray(images)))

    def some(self, rows: Any) -> "Population":
        """Those with some numbers."""
        params = jax.tree.map(lambda leaf: leaf[rows], self.params)
        return Population(self.network, params, {name: of[rows] for name, of in self.attributes.items()})


@dataclasses.dataclass(frozen=True)
class Masked(Trainable):
    """A perceptron whose attributes are numbers among its parameters, `params["params"]["choice"]`.

    Attributes:
        num_classes: K.
    """

    num_classes: int = 10

    def init(self, key: jax.Array, image_shape: tuple[int, ...]) -> Params:
        """Fresh parameters with the first value of every attribute."""
        return self.chosen(key, image_shape, {name: jnp.zeros((), int) for name in ATTRIBUTES})

    def chosen(self, key: jax.Array, image_shape: tuple[int, ...], attributes: Mapping[str, jax.Array]) -> Params:
        """Fresh parameters with given attributes, He's initialisation for the units that count."""
        choice = {
            "activation": jax.nn.one_hot(attributes["activation"], len(ATTRIBUTES["activation"])),
            "optimiser": jax.nn.one_hot(attributes["optimiser"], len(ATTRIBUTES["optimiser"])),
        }
        for name in ("hidden layers", "hidden units", "dropout", "batch size"):
            choice[name] = jnp.asarray(ATTRIBUTES[name], jnp.float32)[attributes[name]]
        pixels = int(np.prod(image_shape))
        sizes = [pixels, *[WIDTH] * DEPTH, self.num_classes]
        inputs: list[Any] = [pixels, *[choice["hidden units"]] * DEPTH]
        keys = jax.random.split(key, DEPTH + 1)
        layers = [
            {"kernel": jax.random.normal(k, (n, m)) * jnp.sqrt(2 / count), "bias": jnp.zeros(m)}
            for k, n, m, count in zip(keys, sizes[:-1], sizes[1:], inputs, strict=True)
        ]
        return {"params": {"choice": choice, "layers": layers}}

    def logits(self, params: Params, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Logits (B, K) of images (B, H, W, C); with a key, in training mode."""
        choice = jax.lax.stop_gradient(params["params"]["choice"])
        *hidden, last = params["params"]["layers"]
        scale = 255 if images.dtype == jnp.uint8 else 1
        x = images.reshape(len(images), -1).astype(jnp.float32) / scale
        for number, layer in enumerate(hidden):
            z = x @ layer["kernel"] + layer["bias"][None]
            kinds = jnp.stack([jax.nn.relu(z), jax.nn.leaky_relu(z, 0.25), jax.nn.elu(z), jnp.tanh(z)])
            new = (
                jnp.tensordot(choice["activation"], kinds, axes=1) * (jnp.arange(WIDTH) < choice["hidden units"])[None]
            )
            if key is not None:
                kept = jax.random.uniform(jax.random.fold_in(key, number), new.shape) >= choice["dropout"]
                new = new * kept / (1 - choice["dropout"])
            x = new if number == 0 else jnp.where(number < choice["hidden layers"], new, x)
        return x @ last["kernel"] + last["bias"][None]

    def __call__(self, params: Params, image: jax.Array) -> jax.Array:
        """Logits (K,) of one image."""
        return self.logits(params, image[None])[0]

    def train(self, params: Params, images: jax.Array) -> tuple[jax.Array, Params]:
        """Logits of a batch without dropout, which draws random numbers: `OwnBatch` has them."""
        return self.logits(params, images), params


@dataclasses.dataclass(frozen=True)
class OwnBatch:
    """Cross-entropy of the first images of a batch, as many as the network's own batch size, under its dropout."""

    def classes(self, outputs: int) -> int:
        """All outputs."""
        return outputs

    def __call__(
        self, network: Any, params: Params, images: Any, targets: Any, unlabelled: Any, key: Any
    ) -> tuple[jax.Array, Params]:
        """The loss."""
        del unlabelled
        losses = optax.softmax_cross_entropy_with_integer_labels(network.logits(params, images, key), targets)
        size = params["params"]["choice"]["batch size"]
        return jnp.sum(jnp.where(jnp.arange(len(losses)) < size, losses, 0)) / size, params


def own_rule(learning_rate: Any) -> optax.GradientTransformation:
    """The step of the optimiser that a network has chosen; `learning_rate` is SGD's, that of the others a twentieth."""
    rules = (optax.sgd(learning_rate, 0.9), optax.adam(learning_rate / 20), optax.rmsprop(learning_rate / 20))

    def init(params: Any) -> Any:
        return tuple(rule.init(params["layers"]) for rule in rules)

    def update(gradients: Any, states: Any, params: Any = None) -> Any:
        pairs = [rule.update(gradients["layers"], state) for rule, state in zip(rules, states, strict=True)]
        weights = params["choice"]["optimiser"]
        steps = jax.tree.map(
            lambda *each: sum(w * s for w, s in zip(weights, each, strict=True)), *(p[0] for p in pairs)
        )
        still = jax.tree.map(jnp.zeros_like, gradients["choice"])
        return {"choice": still, "layers": steps}, tuple(state for _, state in pairs)

    return optax.GradientTransformation(init, update)


def train_population(
    key: jax.Array,
    images: Any,
    labels: Any,
    count: int,
    *,
    classes: int = 10,
    steps: int = 300,
    learning_rate: float = 0.05,
    attributes: Mapping[str, np.ndarray] | None = None,
) -> Population:
    """Train networks with random attributes on images of one set, all as one program.

    All take the same number of steps: one of a smaller batch has seen fewer images.

    Args:
        key: randomness of attributes, initialisations and training.
        images: (N, H, W, C), uint8 or floating point in [0, 1]; a network is trained on the first of a random order.
        labels: (N,).
        count: T.
        classes: K.
        steps: of training.
        learning_rate: of SGD with momentum 0.9; Adam and RMSprop take a twentieth.
        attributes: which value each has, (T,) by name; drawn by default.

    Returns:
        The networks.

    Raises:
        ValueError: for numbers below 1, attributes of other names, or images and labels that do not fit.
    """
    check_random_key(key)
    for name, number in (("count", count), ("steps", steps)):
        check_count(name, number, low=1)
    images = as_pixels(images)
    labels = as_labels(labels, shape=(len(images),), classes=classes, name="labels")
    draw_key, init_key, rows_key, train_key = jax.random.split(key, 4)
    chosen = drawn(draw_key, count) if attributes is None else dict(attributes)
    if set(chosen) != set(ATTRIBUTES):
        raise ValueError(f"attributes are {sorted(chosen)}: must be {sorted(ATTRIBUTES)}")
    network = Masked(classes)
    params = _started(network, jax.random.split(init_key, count), np.shape(images)[1:], chosen)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(rows_key)))
    sizes = np.minimum(np.asarray(ATTRIBUTES["training images"])[chosen["training images"]], len(images))
    rows = np.stack([rng.permutation(len(images))[rng.integers(0, size, steps * BATCH)] for size in sizes])
    recipe = Recipe(1, BATCH, learning_rate, rule=own_rule)
    sets = Sets(images, rows, np.asarray(labels)[rows])
    params = fit_many(jax.random.split(train_key, count), network, sets, recipe, loss=OwnBatch(), params=params)
    return Population(network, params, chosen)


def drawn(key: jax.Array, count: int) -> dict[str, np.ndarray]:
    """Random attributes of so many networks, each value of each attribute equally often, (T,) by name."""
    check_random_key(key)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return {name: rng.permutation(np.arange(count) % len(values)) for name, values in ATTRIBUTES.items()}


def _started(network: Masked, keys: jax.Array, shape: tuple[int, ...], attributes: Mapping[str, Any]) -> Params:
    """Fresh parameters of many."""
    return jax.jit(jax.vmap(lambda key, one: network.chosen(key, shape, one)))(keys, dict(attributes))


@functools.partial(jax.jit, static_argnums=0)
def _posteriors(network: Masked, params: Params, images: jax.Array) -> jax.Array:
    """Posteriors of all at all."""
    return jax.vmap(lambda one: jax.nn.softmax(network.logits(one, images)))(params)
