"""Attributes of a network are learned from the responses of many small ones, trained as one program."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pp_jax import training
from pp_jax.attacks.structural import ATTRIBUTES, kennen_i, kennen_o, train_population
from pp_jax.attacks.structural.population import Masked, OwnBatch, drawn, own_rule
from smallworld import stripes

KEY = jax.random.key(0)
NETWORK = Masked(4)
FAST = training.Recipe(20, 16, 1e-2, rule=optax.adam)


def chosen(**values):
    """Indices of values by name, the first ones for the others."""
    names = {name.replace(" ", "_"): name for name in ATTRIBUTES}
    return {
        name: jnp.asarray(ATTRIBUTES[name].index(values[key]) if key in values else 0) for key, name in names.items()
    }


@pytest.mark.parametrize(
    ("kind", "layers", "units"), [("relu", 1, 8), ("leaky relu", 2, 16), ("elu", 3, 32), ("tanh", 2, 32)]
)
def test_a_masked_network_is_the_plain_one_of_its_attributes(kind, layers, units):
    images, _ = stripes(0, 400)
    params = NETWORK.chosen(KEY, (8, 8, 1), chosen(activation=kind, hidden_layers=layers, hidden_units=units))
    kinds = {
        "relu": lambda z: np.maximum(z, 0),
        "leaky relu": lambda z: np.where(z > 0, z, 0.25 * z),
        "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        "tanh": np.tanh,
    }
    *hidden, last = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"]["layers"])
    x = images[:5].reshape(5, -1) / 255
    for number, layer in enumerate(hidden[:layers]):
        rows = slice(None) if number == 0 else slice(units)
        x = kinds[kind](x @ layer["kernel"][rows, :units] + layer["bias"][:units])
    expected = x @ last["kernel"][:units] + last["bias"]
    found = jax.vmap(NETWORK, (None, 0))(params, jnp.asarray(images[:5]))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rule"), [("sgd", optax.sgd(0.1, 0.9)), ("adam", optax.adam(0.005)), ("rmsprop", optax.rmsprop(0.005))]
)
def test_a_network_takes_the_steps_of_its_own_optimiser_and_keeps_its_attributes(name, rule):
    params = NETWORK.chosen(KEY, (2, 2, 1), chosen(optimiser=name))["params"]
    ours, theirs, own = params, params["layers"], own_rule(0.1)
    state, other = own.init(ours), rule.init(theirs)
    for _ in range(3):
        gradients = jax.tree.map(lambda leaf: jnp.sin(7 * leaf) + 0.1, ours)
        change, state = own.update(gradients, state, ours)
        ours = optax.apply_updates(ours, change)
        change, other = rule.update(gradients["layers"], other, theirs)
        theirs = optax.apply_updates(theirs, change)
    chex.assert_trees_all_close(ours["layers"], theirs, rtol=1e-5)
    chex.assert_trees_all_equal(ours["choice"], params["choice"])


def test_a_network_learns_from_the_first_images_of_a_batch_as_many_as_its_own():
    images, labels = stripes(0, 400)
    images, labels, loss = jnp.asarray(images[:64]), jnp.asarray(labels[:64]), OwnBatch()
    params = NETWORK.chosen(KEY, (8, 8, 1), chosen(batch_size=16))
    value, _ = loss(NETWORK, params, images, labels, None, KEY)
    expected = optax.softmax_cross_entropy_with_integer_labels(NETWORK.logits(params, images[:16]), labels[:16]).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    dropping = NETWORK.chosen(KEY, (8, 8, 1), chosen(dropout=0.25))
    one, other = (NETWORK.logits(dropping, images, key) for key in jax.random.split(KEY))
    assert np.abs(one - other).max() > 0.01
    np.testing.assert_array_equal(NETWORK.logits(params, images, KEY), NETWORK.logits(params, images))


def test_values_of_an_attribute_are_equally_frequent():
    for name, of in drawn(KEY, 120).items():
        assert (np.bincount(of) == 120 // len(ATTRIBUTES[name])).all()


@pytest.fixture(scope="module")
def trained():
    """Networks on stripes."""
    images, labels = stripes(0, 400)
    return train_population(KEY, images, labels, 48, classes=4, steps=60)


@pytest.mark.slow
def test_networks_learn_and_the_responses_give_the_training_away(trained):
    images, labels = stripes(1, 128)
    responses = trained.posteriors(images[:30])
    assert responses.shape == (48, 30, 4)
    accuracy = (trained.posteriors(images).argmax(-1) == labels).mean(1)
    assert np.median(accuracy) > 0.7
    meta = kennen_o(KEY, responses, trained.attributes, hidden=32, recipe=FAST)
    for name, found in meta(responses).items():
        assert np.mean(found == trained.attributes[name]) > 0.9
    crafted = kennen_i(KEY, trained, "hidden layers", images[:4], steps=30)
    labels = trained.posteriors(crafted.image[None])[:, 0].argmax(-1)
    right = np.mean(crafted(labels) == trained.attributes["hidden layers"])
    start = trained.posteriors(images[:4]).argmax(-1)
    assert right > max(np.mean(column == trained.attributes["hidden layers"]) for column in start.T)
    assert crafted.image.min() >= 0
    assert crafted.image.max() <= 1


@pytest.mark.slow
def test_attributes_of_networks_never_seen_are_told_better_than_by_chance():
    images, labels = stripes(0, 400)
    many = train_population(KEY, images, labels, 120, classes=4, steps=60)
    known, new = many.some(np.arange(84)), many.some(np.arange(84, 120))
    queries = stripes(1, 128)[0][:60]
    found = kennen_o(KEY, known.posteriors(queries), known.attributes, hidden=64, recipe=FAST)(new.posteriors(queries))
    gains = [np.mean(found[name] == new.attributes[name]) * len(of) for name, of in ATTRIBUTES.items()]
    assert np.mean(gains) > 1.05
    assert gains[0] > 1.3  # the activation


def test_responses_that_hide_nothing_tell_everything():
    rng = np.random.default_rng(0)
    secret = {"one": rng.integers(0, 3, 90), "two": rng.integers(0, 2, 90)}
    logits = rng.normal(size=(90, 5, 4))
    logits[:, 0, :3] += 12 * np.eye(3)[secret["one"]]
    logits[:, 1, :2] += 12 * np.eye(2)[secret["two"]]
    responses = np.asarray(jax.nn.softmax(logits))
    train = {name: of[:60] for name, of in secret.items()}
    found = kennen_o(KEY, responses[:60], train, hidden=32, recipe=FAST)(responses[60:])
    for name, of in secret.items():
        assert np.mean(found[name] == of[60:]) >= 0.9


GOOD = {"a": np.arange(6) % 2}


@pytest.mark.parametrize(
    ("responses", "attributes", "message"),
    [
        (np.ones((6, 4)), GOOD, r"must be \(T, Q, K\)"),
        (np.full((6, 2, 2), np.nan), GOOD, "responses"),
        (-np.ones((6, 2, 2)), GOOD, "must not be negative"),
        (np.ones((6, 2, 2)), {"a": np.arange(5) % 2}, r"attribute a must be \(6,\) indices"),
        (np.ones((6, 2, 2)), {"a": np.zeros(6)}, "indices of its values"),
        (np.ones((6, 2, 2)), {"a": np.zeros(6, int)}, "at least two values"),
        (np.ones((6, 2, 2)), {}, "must name at least one"),
    ],
)
def test_responses_and_attributes_that_do_not_fit_are_refused(responses, attributes, message):
    with pytest.raises(ValueError, match=message):
        kennen_o(KEY, responses, attributes)


def test_an_attribute_without_a_label_each_is_refused(trained):
    images, labels = stripes(0, 400)
    with pytest.raises(ValueError, match="must be one of activation"):
        kennen_i(KEY, trained, "colour", images[:1])
    few = trained._replace(network=Masked(2))
    with pytest.raises(ValueError, match="hidden layers has 3 values: must be at most 2"):
        kennen_i(KEY, few, "hidden layers", images[:1])
    with pytest.raises(ValueError, match="attributes are"):
        train_population(KEY, images, labels, 4, classes=4, attributes={"colour": np.zeros(4, int)})
    with pytest.raises(ValueError, match="steps"):
        train_population(KEY, images, labels, 4, classes=4, steps=0)
