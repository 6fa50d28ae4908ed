"""Black-box Dissector: whole images and erased ones, as planned; what is erased is where the label rests."""

import dataclasses

import jax
import numpy as np
import pytest

from grids import grid
from pp_jax import models, training
from pp_jax.attacks import Dissector, collect
from pp_jax.attacks.stages import split
from support import blobs

POOL, _ = blobs(0, 60)
KEY = jax.random.key(0)
RECIPE = training.Recipe(2, 16, 0.1)
ATTACK = Dissector(grid(), RECIPE, 40, rounds=2, erased_share=0.4, variants=4)
KNOWN = {image.tobytes() for image in POOL}
WEIGHTS = np.random.default_rng(1).normal(size=(36, 4))


def label(images):
    """An API of labels."""
    return (np.asarray(images).reshape(len(images), -1) @ WEIGHTS).argmax(axis=1)


@pytest.fixture(scope="module")
def taken():
    """The queries of one attack."""
    return collect(KEY, ATTACK, POOL, label, budget=40)


def test_a_share_of_every_round_are_erased_copies_and_the_rest_are_images_of_the_pool(taken):
    ends = split(40, 2, 0.1)
    erased = [image.tobytes() not in KNOWN for image in taken.images]
    assert sum(erased[: ends[0]]) == 0
    plan = ATTACK._plan()
    # Only the 4 images of the seed are there to be erased in the first round.
    assert plan == [(4, 14), (7, 11)]
    for (copies, whole), first, last in zip(plan, ends, ends[1:], strict=False):
        assert erased[first:last] == [False] * whole + [True] * copies


def test_an_erased_copy_is_an_earlier_image_but_for_a_rectangle_and_none_is_erased_twice(taken):
    sources = []
    for place, image in enumerate(taken.images):
        if image.tobytes() in KNOWN:
            continue
        same = (taken.images[:place] == image).mean(axis=(1, 2, 3))
        sources.append(int(same.argmax()))
        assert taken.images[sources[-1]].tobytes() in KNOWN
        changed = np.argwhere((taken.images[sources[-1]] != image)[..., 0])
        height, width = np.ptp(changed, axis=0) + 1
        assert height * width == len(changed)
        inside = image[tuple(changed.T)]
        np.testing.assert_allclose(inside, taken.images[sources[-1]].mean(), rtol=1e-5)
    assert len(sources) == len(set(sources)) == 11


def test_no_image_of_the_pool_is_queried_twice_whole(taken):
    whole = [image.tobytes() for image in taken.images if image.tobytes() in KNOWN]
    assert len(whole) == len(set(whole)) == 29


def test_posteriors_count_by_their_argmax(taken):
    again = collect(KEY, ATTACK, POOL, lambda images: np.eye(4, dtype=np.float32)[label(images)], budget=40)
    np.testing.assert_array_equal(again.images, taken.images)


def test_a_pool_need_not_hold_what_is_erased():
    assert ATTACK.capacity(29) == 40
    assert ATTACK.capacity(28) == 28
    assert Dissector().capacity(28) == 28


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dissector(budget=9), "budget is 9: must be larger for 9 rounds"),
        (lambda: Dissector(erased_share=1.0), "erased_share is 1.0: must be at least 0 and below 1"),
        (lambda: Dissector(variants=0), "variants must be"),
        (lambda: Dissector().init(KEY, POOL), "network is None: must be given"),
        (lambda: ATTACK.init(KEY, POOL[:28]), "must hold at least 29 images for a budget of 40, not 28"),
        (lambda: dataclasses.replace(ATTACK, network=models.mlp(4)).init(KEY, POOL), "needs a network with a convol"),
    ],
)
def test_bad_numbers_are_refused_in_one_line_before_a_query(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
