"""Top-1 and smoothing: what they return, and that every copy is a counted query."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax.attacks import Knockoff, collect
from pp_jax.recovery import nudge, smoothing, top1
from pp_jax.serving.blackbox import BudgetExhausted, Metered
from pp_jax.training.augmentation import bind, random_crop


def test_top1_is_the_vertex_of_the_first_largest_entry():
    found = top1(np.asarray([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], np.float32))
    np.testing.assert_array_equal(found, np.asarray([[0, 1, 0], [1, 0, 0]], np.float32))


def _half(images):
    """Answers from the mean brightness."""
    share = np.asarray(images, np.float64).mean((1, 2, 3)) / (255 if images.dtype == np.uint8 else 1)
    return np.stack([share, 1 - share], axis=1)


def test_smoothing_averages_over_the_copies_of_each_image():
    images = np.random.default_rng(0).uniform(0, 1, (5, 6, 6, 1)).astype(np.float32)
    seen = []

    def api(images):
        seen.append(images)
        return _half(images)

    answers = smoothing(jax.random.key(0), api, copies=4)(images)
    copies = seen[0].reshape(5, 4, 6, 6, 1)
    np.testing.assert_allclose(answers, np.stack([_half(c).mean(0) for c in copies]))
    assert np.abs(copies[:, 0] - copies[:, 1]).max(axis=(1, 2, 3)).min() > 0.01
    reverse = smoothing(jax.random.key(0), _half, copies=4)(images[::-1])
    np.testing.assert_allclose(reverse[::-1], answers)


def test_every_copy_is_counted():
    pool = np.random.default_rng(1).uniform(0, 1, (30, 6, 6, 1)).astype(np.float32)
    meter = Metered(_half, 60)
    augment = bind(random_crop, padding=1)
    stolen = collect(
        jax.random.key(0), Knockoff(7), pool, smoothing(jax.random.key(1), meter, augment=augment), budget=20
    )
    assert (stolen.queries, meter.spent) == (20, 60)
    with pytest.raises(BudgetExhausted):
        smoothing(jax.random.key(1), meter)(pool[:1])


@pytest.mark.parametrize("dtype", ["uint8", "float32", "bfloat16"])
def test_a_nudge_keeps_shape_and_type_and_moves_a_little(dtype):
    image = np.zeros((12, 12, 2))
    image[4:8, 4:8] = 1
    image = jnp.asarray(255 * image if dtype == "uint8" else image, dtype)
    moved = jax.jit(jax.vmap(nudge, (0, None)))(jax.random.split(jax.random.key(0), 20), image)
    assert moved.shape == (20, *image.shape)
    assert moved.dtype == image.dtype
    mass = np.asarray(moved, np.float64).sum((1, 2, 3)) / np.asarray(image, np.float64).sum()
    assert ((mass > 0.7) & (mass < 1.3)).all()
    assert (np.asarray(moved != image[None]).sum((1, 2, 3)) > 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: smoothing(jax.random.key(0), _half, copies=0), "copies must be a whole number of at least 1, not 0"),
        (
            lambda: smoothing(jax.random.key(0), lambda x: _half(x)[1:])(np.zeros((2, 3, 3, 1), np.float32)),
            "must answer every image: 6 asked, 5 answered",
        ),
        (lambda: top1(np.ones((2, 3))), "must sum to one: 2 of 2"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
