"""The soft nearest neighbour loss is the formula in plain NumPy, and training with it mixes triggers into a class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smallworld
from pp_jax import models, training
from pp_jax.ownership import patched
from pp_jax.training import Entangled, soft_nearest_neighbour
from support import Linear

NETWORK = models.mlp(4, hidden=(32,))
TARGET = 3


def _plain(features, groups, temperature, included):
    """The formula, point by point."""
    rows = []
    for i in np.flatnonzero(included):
        others = [j for j in np.flatnonzero(included) if j != i]
        weights = {j: np.exp(-((features[i] - features[j]) ** 2).sum() / temperature) for j in others}
        own = sum(weight for j, weight in weights.items() if groups[j] == groups[i])
        if own:
            rows.append(-np.log(own / sum(weights.values())))
    return np.mean(rows) if rows else 0.0


@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_the_formula(seed):
    rng = np.random.default_rng(seed)
    features, groups = rng.normal(size=(12, 3)), rng.integers(0, 3, 12)
    included = rng.random(12) < 0.8
    found = soft_nearest_neighbour(
        jnp.asarray(features, jnp.float32), jnp.asarray(groups), temperature=1.5, included=jnp.asarray(included)
    )
    assert float(found) == pytest.approx(_plain(features, groups, 1.5, included), rel=1e-4)


def test_separate_groups_have_a_small_loss_and_mixed_ones_a_large_one():
    groups = jnp.arange(20) % 2
    noise = jax.random.normal(jax.random.key(0), (20, 2))
    apart = soft_nearest_neighbour(noise + 20 * groups[:, None], groups, temperature=1.0)
    assert float(apart) < 1e-3 < 0.5 < float(soft_nearest_neighbour(noise, groups, temperature=1.0))


def test_lonely_points_have_neither_a_loss_nor_an_infinite_gradient():
    points = jnp.array([[0.0], [1.0], [1.0]])
    value, gradient = jax.value_and_grad(soft_nearest_neighbour)(points, jnp.array([0, 1, 2]), temperature=1.0)
    assert float(value) == 0
    assert np.isfinite(np.asarray(gradient)).all()


@pytest.mark.slow
def test_entanglement_mixes_triggers_with_the_target_class_and_keeps_the_accuracy():
    images, labels = smallworld.stripes(0, 400)
    triggers = patched(images[labels == 1])
    recipe = training.Recipe(12, batch_size=32, learning_rate=0.05, momentum=0.9)

    def trained(weight):
        loss = Entangled(TARGET, weight)
        params = training.fit(jax.random.key(0), NETWORK, images, labels, recipe, loss=loss, unlabelled=triggers)
        points = jax.vmap(NETWORK.features, (None, 0))(params, jnp.concatenate([triggers, images[labels == TARGET]]))
        groups = jnp.arange(len(points)) < len(triggers)
        spread = 2 * jnp.var(points, axis=0).sum()
        test, classes = smallworld.stripes(1, 128)
        logits = jax.vmap(NETWORK, (None, 0))(params, test)
        marked = jax.vmap(NETWORK, (None, 0))(params, triggers)
        return (
            float(soft_nearest_neighbour(points, groups, temperature=spread)),
            float((np.asarray(logits).argmax(1) == classes).mean()),
            float((np.asarray(marked).argmax(1) == TARGET).mean()),
        )

    plain, mixed = trained(0.0), trained(2.0)
    assert mixed[0] > plain[0] + 0.05
    assert min(plain[1:] + mixed[1:]) > 0.9


def _value(loss, network=NETWORK, unlabelled=True):
    images, labels = smallworld.stripes(0, 400)
    given = patched(images[:8]) if unlabelled else None
    return loss(network, network.init(jax.random.key(0), (8, 8, 1)), images[:8], labels[:8], given, None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Entangled(-1), "target must be a whole number of at least 0"),
        (lambda: Entangled(0, weight=-1.0), "weight must be at least 0 and finite"),
        (lambda: Entangled(0, temperature=0.0), "temperature must be above 0"),
        (lambda: _value(Entangled(0), unlabelled=False), "unlabelled must be given to Entangled, not None"),
        (lambda: _value(Entangled(4)), "target is 4: must be below the network's 4 classes"),
        (
            lambda: _value(Entangled(0), Linear(4)),
            r"Entangled needs a network with features\(params, image\), not Linear",
        ),
    ],
)
def test_what_cannot_be_entangled_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
