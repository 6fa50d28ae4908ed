"""Augmented images are the published variations: each occurs, the key decides, and nothing leaves the pixel range."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pp_jax import augmentation
from pp_jax.training.augmentation import CIFAR, IMAGENET, bind, compose, random_crop, random_flip, random_resized_crop

SMALL_CROP = bind(random_resized_crop, size=(12, 10))
ALL = [
    pytest.param(random_flip, (9, 7, 3), id="flip"),
    pytest.param(random_crop, (9, 7, 3), id="crop"),
    pytest.param(SMALL_CROP, (12, 10, 3), id="resized-crop"),
    pytest.param(CIFAR, (9, 7, 3), id="cifar"),
    pytest.param(compose(SMALL_CROP, random_flip), (12, 10, 3), id="photographs"),
]


def pixels(shape=(9, 7, 3), seed=0):
    """Pixels from 1 to 255, so that black is what was not there before."""
    return np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)


@functools.partial(jax.jit, static_argnums=(0, 1))
def many(augment, count, image, seed=0):
    """One image, augmented with many keys."""
    return jax.vmap(augment, (0, None))(jax.random.split(jax.random.key(seed), count), image)


def numpy_crop(image, top, left, padding):
    """The crop of the padded image at (top, left)."""
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return padded[top : top + image.shape[0], left : left + image.shape[1]]


@pytest.mark.parametrize(("augment", "shape"), ALL)
def test_the_key_alone_decides_and_pixels_stay_in_their_range(augment, shape):
    image = (pixels() / 255).astype(np.float32)
    batch = np.asarray(many(augment, 30, image))
    assert batch.shape == (30, *shape)
    assert 0 <= batch.min() <= batch.max() <= 1
    assert len(np.unique(batch.reshape(30, -1), axis=0)) > 1
    alone = jax.jit(augment)(jax.random.split(jax.random.key(0), 30)[11], image)
    np.testing.assert_allclose(alone, batch[11], atol=1e-6)


def test_uint8_images_are_the_same_but_for_rounding():
    augment = compose(SMALL_CROP, random_flip)
    expected = 255 * many(augment, 30, (pixels() / 255).astype(np.float32))
    assert jnp.abs(many(augment, 30, pixels()) - expected).max() <= 0.5001


@pytest.mark.parametrize(("augment", "shape"), ALL)
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.bfloat16, jnp.float32, jnp.float64])
def test_shape_and_type_are_kept_also_in_x64_mode(augment, shape, dtype):
    for x64 in (False, True)[dtype == jnp.float64 :]:
        with jax.enable_x64(x64):
            image = jax.ShapeDtypeStruct((9, 7, 3), dtype)
            found = jax.eval_shape(augment, jax.random.key(0), image)
            assert (found.shape, found.dtype) == (shape, dtype)


def test_half_of_the_images_are_flipped_and_the_others_untouched():
    image = pixels()
    images = np.asarray(many(random_flip, 1000, image))
    flipped = (images == image[:, ::-1]).all((1, 2, 3))
    assert (flipped | (images == image).all((1, 2, 3))).all()
    # Four standard deviations of 1000 fair coins are .063.
    assert abs(flipped.mean() - 0.5) < 0.063


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_every_shift_occurs_equally_often_and_no_other_image_does(padding):
    image, places = pixels(), (2 * padding + 1) ** 2
    images = np.asarray(many(bind(random_crop, padding=padding), 80 * places, image))
    counts = [
        (images == numpy_crop(image, top, left, padding)).all((1, 2, 3)).sum()
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    ]
    assert sum(counts) == len(images)
    # Four standard deviations of 80 rare events are 36.
    assert max(abs(count - 80) for count in counts) < 36 or padding == 0


def test_the_whole_rectangle_at_its_own_size_is_the_image():
    whole = bind(random_resized_crop, size=(8, 8), scale=(1.0, 1.0), ratio=(1.0, 1.0))
    for image in (pixels((8, 8, 3)), (pixels((8, 8, 1)) / 255).astype(np.float32)):
        np.testing.assert_allclose(many(whole, 3, image), np.broadcast_to(image, (3, *image.shape)), rtol=1e-6)


@pytest.mark.slow
def test_resampling_averages_where_it_shrinks_and_interpolates_where_it_grows():
    def whole(image, size):
        augment = bind(random_resized_crop, size=size, scale=(1.0, 1.0), ratio=(1.0, 1.0))
        return augment(jax.random.key(0), jnp.asarray(image, jnp.float32)[:, :, None])[:, :, 0]

    # A triangle twice as wide: weights 1, 3, 3, 1 around each centre, without those outside.
    step = np.repeat([[0.0, 0.0, 1.0, 1.0]], 4, axis=0)
    np.testing.assert_allclose(whole(step, (2, 2)), np.broadcast_to([1 / 7, 6 / 7], (2, 2)), rtol=1e-5)
    np.testing.assert_allclose(
        whole([[0.0, 1.0], [0.0, 1.0]], (4, 4)), np.broadcast_to([0, 0.25, 0.75, 1], (4, 4)), atol=1e-6
    )


def test_nothing_outside_the_rectangle_enters():
    ramp = np.broadcast_to(np.linspace(0, 1, 40, dtype=np.float32)[:, None, None], (40, 40, 1))
    images = np.asarray(many(bind(random_resized_crop, size=(5, 5), scale=(0.4, 0.6)), 50, ramp))
    # A triangle that is cut off at the rectangle's edge has its mean further inside, by 2/21 of a step; one that is
    # not, has it at the centre of the outermost pixel.
    rows = images[:, :, 0, 0] * 39
    step = rows[:, 3] - rows[:, 2]
    np.testing.assert_allclose((rows[:, 0] - rows[:, 2]) / step + 2, 2 / 21, atol=0.03)
    np.testing.assert_allclose((rows[:, 4] - rows[:, 2]) / step - 2, -2 / 21, atol=0.03)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: tuple(sorted(pair))),
    ratio=st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)).map(lambda pair: tuple(sorted(pair))),
)
def test_rectangles_lie_inside_the_image_whatever_its_shape(shape, scale, ratio):
    def rectangle(key):
        return augmentation._rectangle(key, shape, scale, ratio)

    starts, lengths = (np.asarray(x) for x in jax.vmap(rectangle)(jax.random.split(jax.random.key(0), 50)))
    assert (starts >= 0).all()
    assert (lengths >= 1).all()
    assert (starts + lengths <= shape).all()


@pytest.mark.slow
def test_areas_and_ratios_cover_their_ranges_evenly():
    def rectangle(key):
        return augmentation._rectangle(key, (1000, 1000), (0.1, 0.5), (3 / 4, 4 / 3))[1]

    height, width = np.asarray(jax.vmap(rectangle)(jax.random.split(jax.random.key(0), 4000))).T
    area, aspect = height * width / 1e6, np.log(width / height) / np.log(4 / 3)
    for values, low, high in ((area, 0.1, 0.5), (aspect, -1, 1)):
        ranks = np.sort((values - low) / (high - low))
        # Kolmogorov and Smirnov's distance, at the level of a millionth.
        assert np.abs(ranks - np.linspace(0, 1, 4000)).max() < 2.7 / 4000**0.5


@pytest.mark.parametrize(("shape", "lengths"), [((10, 100), (10, 13)), ((100, 10), (13, 10))])
def test_an_image_that_no_draw_fits_gives_its_largest_centred_rectangle(shape, lengths):
    draw = jax.jit(lambda key: augmentation._rectangle(key, shape, (1.0, 1.0), (3 / 4, 4 / 3)))
    starts, found = draw(jax.random.key(0))
    np.testing.assert_array_equal(found, lengths)
    np.testing.assert_array_equal(starts, (np.array(shape) - lengths) // 2)


def test_no_step_is_the_identity_and_steps_have_keys_of_their_own():
    image = pixels()
    np.testing.assert_array_equal(compose()(jax.random.key(0), image), image)
    twice = np.asarray(many(compose(random_flip, random_flip), 400, image))
    assert 0.35 < (twice == image).all((1, 2, 3)).mean() < 0.65


def test_augmentations_that_do_the_same_are_one_static_argument():
    def build(padding):
        return compose(bind(random_crop, padding=padding), random_flip)

    assert build(2) == build(2) != build(3)
    assert hash(build(2)) == hash(build(2))
    assert bind(random_resized_crop, size=(8, 8), scale=(1, 1)) == bind(random_resized_crop, scale=(1, 1), size=(8, 8))
    assert compose(random_crop, random_flip) == CIFAR
    assert compose(random_resized_crop, random_flip) == IMAGENET
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def run(augment, key, image):
        traces.append(augment)
        return augment(key, image)

    for _ in range(2):
        run(build(2), jax.random.key(0), pixels())
    assert len(traces) == 1


def test_photographs_come_out_at_224():
    shape = jax.eval_shape(IMAGENET, jax.random.key(0), jax.ShapeDtypeStruct((300, 200, 3), jnp.uint8))
    assert (shape.shape, shape.dtype) == ((224, 224, 3), jnp.uint8)


@pytest.mark.parametrize("function", [random_flip, random_crop, random_resized_crop])
def test_the_key_comes_first_and_options_are_keyword_only(function):
    key, image, *options = inspect.signature(function).parameters.values()
    assert (key.name, image.name) == ("key", "image")
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in options)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (bind(random_crop, padding=-1), "padding=-1 must be at least 0"),
        (bind(random_resized_crop, size=(0, 5)), r"size=\(0, 5\) must be at least 1"),
        (bind(random_resized_crop, scale=(0.0, 1.0)), r"scale=\(0.0, 1.0\) must rise within"),
        (bind(random_resized_crop, scale=(0.5, 0.4)), r"scale=\(0.5, 0.4\) must rise within"),
        (bind(random_resized_crop, ratio=(2.0, 1.0)), r"ratio=\(2.0, 1.0\) must rise"),
    ],
)
def test_a_wrong_option_is_named(augment, message):
    with pytest.raises(ValueError, match=message):
        augment(jax.random.key(0), pixels())


@pytest.mark.parametrize(("augment", "shape"), ALL)
def test_a_batch_is_refused(augment, shape):
    with pytest.raises(ValueError, match="must have 3 axes"):
        augment(jax.random.key(0), pixels()[None])


def test_an_option_that_cannot_be_hashed_is_refused():
    with pytest.raises(ValueError, match=r"size=\[8, 8\] must be hashable"):
        bind(random_resized_crop, size=[8, 8])
