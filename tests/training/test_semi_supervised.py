"""Semi-supervised losses: they fall, and without weight they are the supervised one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pp_jax import metrics, models
from pp_jax.training import FirstClasses, MixMatch, Recipe, Rotations, fit, make_step
from pp_jax.training.augmentation import bind, compose, random_crop
from support import Linear, blobs, linear_logits

RECIPE = Recipe(epochs=8, batch_size=20, learning_rate=0.1)
SHIFT = bind(random_crop, padding=1)


def _data():
    """Images, one-hot targets, unlabelled images."""
    images, labels = blobs(1, 200)
    return images, np.eye(4, dtype=np.float32)[labels], blobs(2, 300)[0]


@pytest.mark.slow
@pytest.mark.parametrize("loss", [Rotations(), MixMatch(augment=SHIFT)], ids=["s4l", "mixmatch"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_loss_falls_and_the_network_learns(loss, dtype):
    outputs = 8 if isinstance(loss, Rotations) else 4
    images, targets, unlabelled = _data()
    if dtype == "uint8":
        images, unlabelled = (np.round(255 * x).astype(np.uint8) for x in (images, unlabelled))
    losses = []
    network = Linear(outputs)
    params = fit(
        jax.random.key(0), network, images, targets, RECIPE, loss=loss, unlabelled=unlabelled,
        on_epoch=lambda _, x: losses.append(x),
    )  # fmt: skip
    assert losses[-1] < 0.8 * losses[0]
    test, labels = blobs(3, 200)
    probs = metrics.predict(lambda p, x: linear_logits(p, x)[:4], params, test)
    assert metrics.accuracy(probs, labels) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "supervised", "loss"),
    [
        (Linear(8), FirstClasses(Linear(8), 4), Rotations(weight=0.0)),
        (Linear(4), Linear(4), MixMatch(weight=0.0, alpha=0.0, augment=SHIFT)),
    ],
    ids=["s4l", "mixmatch"],
)
def test_without_weight_the_step_is_the_supervised_one(network, supervised, loss):
    images, targets, unlabelled = (jnp.asarray(a[:20]) for a in _data())
    optimizer = optax.sgd(0.1, momentum=0.9)
    params = network.init(jax.random.key(0), (6, 6, 1))
    carry = (params, optimizer.init(params["params"]))
    ours, value = make_step(network, optimizer, loss=loss)(carry, images, targets, jax.random.key(1), unlabelled)
    theirs, expected = make_step(supervised, optimizer)(carry, images, targets)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), ours, theirs)


@pytest.mark.slow
def test_the_rotation_head_is_what_the_unlabelled_images_teach():
    images, targets, unlabelled = (jnp.asarray(a[:20]) for a in _data())
    optimizer = optax.sgd(0.1)
    params = Linear(8).init(jax.random.key(0), (6, 6, 1))
    carry = (params, optimizer.init(params["params"]))
    after, _ = make_step(Linear(8), optimizer, loss=Rotations())(carry, images, targets, None, unlabelled)
    moved = np.abs(after[0]["params"]["kernel"] - params["params"]["kernel"])
    assert moved[:, 4:].max() > 1e-4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Rotations(-1.0), "weight must be at least 0 and finite, not -1.0"),
        (lambda: MixMatch(temperature=0.0), "temperature must be above 0"),
        (lambda: MixMatch(alpha=-1.0), "alpha must be at least 0"),
        (lambda: _fit(Linear(4), Rotations()), r"must have K \+ 4 outputs, .*, not 4"),
        (lambda: _fit(Linear(7), Rotations()), r"soft labels \(\d+, 3\), as the network has 3 classes"),
        (lambda: _fit(Linear(4), MixMatch(), others=np.zeros((3, 5, 6, 1), np.float32)), "must be alike"),
        (lambda: _fit(Linear(4), MixMatch(), augment=compose()), "without augment and privacy"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def _fit(network, loss, *, others=None, augment=None):
    images, targets, unlabelled = _data()
    recipe = Recipe(epochs=1, augment=augment)
    others = unlabelled if others is None else others
    return fit(jax.random.key(0), network, images, targets, recipe, loss=loss, unlabelled=others)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [Rotations(), MixMatch(augment=SHIFT)], ids=["s4l", "mixmatch"])
def test_class_indices_are_one_hot_targets(loss):
    images, targets, unlabelled = _data()
    labels = targets.argmax(1)
    recipe, network = Recipe(epochs=1, batch_size=20), Linear(8 if isinstance(loss, Rotations) else 4)
    hot, indices = (
        fit(jax.random.key(0), network, images, t, recipe, loss=loss, unlabelled=unlabelled) for t in (targets, labels)
    )
    jax.tree.map(np.testing.assert_array_equal, hot, indices)


@pytest.mark.parametrize("loss", [Rotations(), MixMatch()], ids=["s4l", "mixmatch"])
def test_without_unlabelled_images_they_say_so(loss):
    images, targets, _ = _data()
    with pytest.raises(ValueError, match=f"unlabelled must be given to {type(loss).__name__}, not None"):
        fit(
            jax.random.key(0),
            Linear(8 if isinstance(loss, Rotations) else 4),
            images,
            targets,
            Recipe(epochs=1),
            loss=loss,
        )


def test_the_first_classes_of_a_network_are_a_network():
    inner = Linear(8)
    network = FirstClasses(inner, 4)
    params, (images, _) = network.init(jax.random.key(0), (6, 6, 1)), blobs(1, 5)
    logits, _ = network.train(params, images)
    np.testing.assert_array_equal(logits, inner.train(params, images)[0][:, :4])
    np.testing.assert_allclose(network(params, images[0]), logits[0], atol=1e-6)
    assert network.vmapped == network
    normal = FirstClasses(models.mlp(8), 4)
    assert normal.vmapped == FirstClasses(models.mlp(8).vmapped, 4) != normal
