"""Random erasing by its stated sizes and places; guesses for erased images as targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import training
from pp_jax.training.erasing import erase
from support import Linear, blobs

IMAGE = np.random.default_rng(0).random((20, 30, 2)).astype(np.float32)
MANY = jax.jit(jax.vmap(erase, (0, None, None)))


def test_what_is_erased_is_a_rectangle_around_where_attention_is():
    attention = np.zeros((20, 30), np.float32)
    attention[7, 11] = 1
    for image in np.asarray(MANY(jax.random.split(jax.random.key(0), 50), IMAGE, attention)):
        changed = np.argwhere((image != IMAGE).any(axis=-1))
        (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
        assert (bottom - top + 1) * (right - left + 1) == len(changed)
        assert 1 <= len(changed) <= 0.45 * 600
        assert top <= 7 <= bottom
        assert left <= 11 <= right
        np.testing.assert_allclose(image[7, 11], IMAGE.mean(axis=(0, 1)), rtol=1e-5)


def test_without_attention_every_pixel_is_erased_now_and_then_and_bytes_stay_bytes():
    bytes_ = (255 * IMAGE).astype(np.uint8)
    images = np.asarray(MANY(jax.random.split(jax.random.key(0), 300), bytes_, None))
    assert images.dtype == np.uint8
    assert (images != bytes_).any(axis=(0, 3)).all()


@pytest.mark.slow
def test_the_loss_is_the_supervised_one_and_the_cross_entropy_of_the_own_guesses():
    images, labels = blobs(0, 8)
    others, _ = blobs(1, 8)
    network, key = Linear(4), jax.random.key(3)
    params = network.init(jax.random.key(0), images.shape[1:])
    loss = training.SelfDistillation(0.5, variants=3)
    found, _ = loss(network, params, images, labels, others, key)
    guesses = []
    for one in jax.random.split(key, 3):
        erased = jax.vmap(erase)(jax.random.split(one, 8), jnp.asarray(others))
        guesses.append(jax.nn.softmax(network.train(params, erased)[0]))
    own = training.soft_cross_entropy(network.train(params, others)[0], jnp.mean(jnp.stack(guesses), axis=0))
    alone = training.soft_cross_entropy(network.train(params, images)[0], labels)
    np.testing.assert_allclose(found, alone + 0.5 * own, rtol=1e-6)


def test_it_needs_unlabelled_images_and_numbers_in_range():
    with pytest.raises(ValueError, match="variants"):
        training.SelfDistillation(variants=0)
    with pytest.raises(ValueError, match="weight must be at least 0"):
        training.SelfDistillation(-1)
    with pytest.raises(ValueError, match="unlabelled must be given to SelfDistillation"):
        training.SelfDistillation()(Linear(4), None, None, None, None, None)
