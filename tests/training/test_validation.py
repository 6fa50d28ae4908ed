"""Held-out targets choose an epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax.training import Best, Recipe, fit, soft_cross_entropy
from support import Linear, blobs

IMAGES, LABELS = blobs(0, 130)


def test_best_keeps_the_epoch_that_predicts_held_out_answers_best_and_not_the_last():
    # After the second epoch the learning rate destroys what was learnt.
    losses, copies = [], []
    recipe = Recipe(epochs=4, batch_size=32, learning_rate=0.1, decay_every=2, decay=1e6)
    logits_fn = lambda params, image: image.ravel() @ params["params"]["kernel"] + params["params"]["bias"]  # noqa: E731
    best = Best(logits_fn, IMAGES[100:], LABELS[100:])

    def hear(state, loss):
        best(state, loss)
        copies.append(jax.tree.map(np.array, state.params))
        logits = np.stack([logits_fn(copies[-1], image) for image in IMAGES[100:]])
        losses.append(float(soft_cross_entropy(jnp.asarray(logits), jnp.asarray(LABELS[100:]))))

    fit(jax.random.key(0), Linear(4), IMAGES[:100], LABELS[:100], recipe, on_epoch=hear)
    assert best.epoch == 1 + int(np.argmin(losses)) == 2
    np.testing.assert_allclose(best.loss, min(losses), rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, best.params, copies[best.epoch - 1])
    with pytest.raises(ValueError, match="must be as many, at least 1: 0 and 0"):
        Best(logits_fn, IMAGES[:0], LABELS[:0])
