"""Reverse-engineering of a network's attributes from its responses: a classifier trained on many small networks."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pp_jax._checks import as_array, check_count, check_finite, check_random_key
from pp_jax.attacks.structural.population import Population
from pp_jax.training import Recipe, Trainable, fit
from pp_jax.types import Params

RECIPE = Recipe(60, 32, 1e-3, weight_decay=1e-3, rule=optax.adam)
"""How the classifier is trained."""


@dataclasses.dataclass(frozen=True)
class _Heads(Trainable):
    """A perceptron over features (F,), one group of outputs for each attribute."""

    values: tuple[int, ...]
    hidden: int

    def init(self, key: jax.Array, image_shape: tuple[int, ...]) -> Params:
        sizes = [*image_shape, *[self.hidden] * 2, sum(self.values)]
        keys = jax.random.split(key, 3)
        return {
            "params": [
                {"kernel": jax.random.normal(k, (n, m)) * jnp.sqrt(2 / n), "bias": jnp.zeros(m)}
                for k, n, m in zip(keys, sizes[:-1], sizes[1:], strict=True)
            ]
        }

    def train(self, params: Params, images: jax.Array) -> tuple[jax.Array, Params]:
        *hidden, last = params["params"]
        x = images
        for layer in hidden:
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"][None])
        return x @ last["kernel"] + last["bias"][None], params

    def groups(self, logits: jax.Array) -> list[jax.Array]:
        return jnp.split(logits, np.cumsum(self.values)[:-1].tolist(), axis=-1)


@dataclasses.dataclass(frozen=True)
class _SumOfHeads:
    """Σ over attributes of the cross-entropy; targets (B, A) are indices."""

    def __call__(
        self, network: Any, params: Params, images: Any, targets: Any, unlabelled: Any, key: Any
    ) -> tuple[jax.Array, Params]:
        del unlabelled, key
        logits, updated = network.train(params, images)
        losses = [
            optax.softmax_cross_entropy_with_integer_labels(group, targets[:, number]).mean()
            for number, group in enumerate(network.groups(logits))
        ]
        return sum(losses), updated


@dataclasses.dataclass(frozen=True, eq=False)
class Meta:
    """A classifier of responses, what `kennen_o` returns.

    Attributes:
        names: attributes, in the order of the heads.
        mean: of the training features, (F,).
        scale: their standard deviation, (F,).
        network: the classifier.
        params: its parameters.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    network: Any
    params: Params

    def __call__(self, responses: Any) -> dict[str, np.ndarray]:
        """By attribute, the value of each of T networks, (T,), from their responses (T, Q, K) to the same queries.

        Raises:
            ValueError: for responses of another shape than those of the training.
        """
        features = _features(responses)
        if features.shape[1:] != self.mean.shape:
            raise ValueError(f"responses have {features.shape[1]} numbers a network: must be {len(self.mean)}")
        logits, _ = self.network.train(self.params, jnp.asarray((features - self.mean) / self.scale, jnp.float32))
        groups = self.network.groups(logits)
        return {name: np.asarray(group.argmax(-1)) for name, group in zip(self.names, groups, strict=True)}


def kennen_o(
    key: jax.Array, responses: Any, attributes: Mapping[str, Any], *, hidden: int = 128, recipe: Recipe = RECIPE
) -> Meta:
    """Learn to tell attributes from responses to fixed queries: minimise Σ_a CE(a, m_a(y_1, …, y_Q)) over networks.

    The features are all responses, and the logarithms of what is in them, standardised; the classifier is a perceptron
    with two hidden layers and a head for each attribute. Published: 100 queries, posteriors as they are.

    Args:
        key: randomness of the training.
        responses: what the attacker's own networks respond to Q queries, (T, Q, K); behind the defense that the victim
            is presumed to have.
        attributes: by name, which value each network has, (T,).
        hidden: units of each hidden layer.
        recipe: of the training.

    Returns:
        The classifier.

    Raises:
        ValueError: for responses of another rank or NaN, attributes of another number of networks, an attribute with
            only one value.

    Source: Oh, Augustin, Schiele, Fritz, "Towards reverse-engineering black-box neural networks", ICLR 2018.
    """
    check_random_key(key)
    check_count("hidden", hidden, low=1)
    features = _features(responses)
    labels = _labels(attributes, len(features))
    mean, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 0, scale, 1)
    network = _Heads(tuple(int(of.max()) + 1 for of in labels.values()), hidden)
    rows = ((features - mean) / scale).astype(np.float32)
    params = fit(key, network, rows, np.stack(list(labels.values()), 1), recipe, loss=_SumOfHeads())
    return Meta(tuple(labels), mean, scale, network, params)


class Crafted(NamedTuple):
    """An input whose label gives an attribute away, what `kennen_i` returns.

    Attributes:
        image: (H, W, C), float32 in [0, 1].
        meaning: (K,), the value of the attribute that each label stands for.
    """

    image: np.ndarray
    meaning: np.ndarray

    def __call__(self, responses: Any) -> np.ndarray:
        """The value of each of T networks, (T,), from their responses (T, K) to the image, or labels (T,)."""
        found = np.asarray(responses)
        return self.meaning[found if found.ndim == 1 else found.argmax(-1)]


def kennen_i(
    key: jax.Array,
    networks: Population,
    name: str,
    starts: Any,
    *,
    steps: int = 200,
    step_size: float = 0.03,
) -> Crafted:
    """Craft one input on which the label of a network is its attribute: min_x mean over networks of CE(a, F(x)).

    Adam on the pixels from each of some images, which are kept in [0, 1]; the start with the best accuracy is taken. In
    the end each label stands for the value that most networks with this label have. A single query, of which the hard
    label is enough, so no defense that keeps the label hinders it.

    Args:
        key: randomness, of a little noise on the starts.
        networks: the attacker's own.
        name: the attribute; it must have at most K values.
        starts: images to start from, (S, H, W, C), uint8 or floating point in [0, 1].
        steps: of Adam.
        step_size: of Adam, in pixel units.

    Returns:
        The input and the meaning of its labels.

    Raises:
        ValueError: for an attribute that the networks lack, or with more values than there are classes.

    Source: Oh et al. 2018, as for `kennen_o`.
    """
    check_random_key(key)
    check_count("steps", steps, low=1)
    if name not in networks.attributes:
        raise ValueError(f"attribute is {name!r}: must be one of {', '.join(networks.attributes)}")
    values = networks.attributes[name]
    count, classes = int(values.max()) + 1, networks.network.num_classes
    if count > classes:
        raise ValueError(f"{name} has {count} values: must be at most {classes}, one for each label")
    starts = np.asarray(starts)
    images = jnp.asarray(starts, jnp.float32) / (255 if starts.dtype == np.uint8 else 1)
    images = jnp.clip(images + 0.05 * jax.random.normal(key, images.shape), 0, 1)
    crafted = np.asarray(_crafted(networks.network, steps, step_size, networks.params, jnp.asarray(values), images))
    labels = networks.posteriors(crafted).argmax(-1)
    meanings = np.stack([_meaning(column, values, classes) for column in labels.T])
    right = [np.mean(meaning[column] == values) for meaning, column in zip(meanings, labels.T, strict=True)]
    best = int(np.argmax(right))
    return Crafted(crafted[best], meanings[best])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _crafted(network: Any, steps: int, step_size: Any, params: Params, values: jax.Array, images: jax.Array) -> Any:
    """The images after some steps of Adam."""
    rule = optax.adam(step_size)

    def loss(images: jax.Array) -> jax.Array:
        logits = jax.vmap(network.logits, (0, None))(params, images)
        wanted = jnp.broadcast_to(values[:, None], logits.shape[:2])
        return optax.softmax_cross_entropy_with_integer_labels(logits, wanted).mean(0).sum()

    def step(carry: Any, _: None) -> Any:
        images, state = carry
        change, state = rule.update(jax.grad(loss)(images), state)
        return (jnp.clip(optax.apply_updates(images, change), 0, 1), state), None

    return jax.lax.scan(step, (images, rule.init(images)), None, length=steps)[0][0]


def _meaning(labels: np.ndarray, values: np.ndarray, classes: int) -> np.ndarray:
    """The value that most networks with each label have; for a label of none, the value of most."""
    counts = np.zeros((classes, int(values.max()) + 1))
    np.add.at(counts, (labels, values), 1)
    return np.where(counts.sum(1) > 0, counts.argmax(1), counts.sum(0).argmax())


def _features(responses: Any) -> np.ndarray:
    """Responses (T, Q, K) and their logarithms as rows, (T, 2QK)."""
    found = np.asarray(as_array(responses, "responses"))
    if found.ndim != 3 or 0 in found.shape:
        raise ValueError(f"responses have shape {found.shape}: must be (T, Q, K), of networks, queries and classes")
    check_finite(found, "responses")
    if (found < 0).any():
        raise ValueError("responses must not be negative: they are posteriors or one-hot labels")
    return np.concatenate([found, np.log(found + 1e-6)], axis=-1).reshape(len(found), -1)


def _labels(attributes: Mapping[str, Any], count: int) -> dict[str, np.ndarray]:
    """The attributes as indices."""
    found = {name: np.asarray(of) for name, of in attributes.items()}
    for name, of in found.items():
        if of.shape != (count,) or of.dtype.kind not in "iu" or of.min() < 0:
            raise ValueError(f"attribute {name} must be ({count},) indices of its values, not {of.shape} of {of.dtype}")
        if of.max() == of.min():
            raise ValueError(f"attribute {name} must have at least two values among the networks, not one")
    if not found:
        raise ValueError("attributes must name at least one")
    return found
