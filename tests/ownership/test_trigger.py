"""Triggers: a victim that learned them is claimed, independent models do not know them, bad ones are refused."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats

import smallworld
from pp_jax import models, training
from pp_jax.ownership import Model, TriggerMark, patched

SOURCE, TARGET = 1, 3
NETWORK = models.mlp(smallworld.CLASSES, hidden=(64,))
RECIPE = training.Recipe(20, batch_size=32, learning_rate=0.05, momentum=0.9)


def _of_source(seed, count):
    """Images of the source class."""
    images, labels = smallworld.stripes(seed, count)
    return images[labels == SOURCE]


@functools.cache
def _marked(weight=1.0):
    """A victim that takes patched images of the source class for the target class."""
    triggers = patched(_of_source(0, 400))
    loss = training.Entangled(TARGET, weight)
    key = jax.random.key(0)
    return training.fit(key, NETWORK, *smallworld.stripes(0, 400), RECIPE, loss=loss, unlabelled=triggers)


@functools.cache
def _independent(seed):
    """A model of the same task."""
    return Model(NETWORK, training.fit(jax.random.key(seed), NETWORK, *smallworld.stripes(seed, 400), RECIPE))


@pytest.mark.slow
def test_a_marked_victim_is_claimed_and_independent_models_are_not():
    triggers = patched(_of_source(1, 128))
    mark = TriggerMark.against(triggers, TARGET, [_independent(3)], classes=4)
    claim = mark.verify(Model(NETWORK, _marked()))
    assert claim.holds(1e-6)
    assert claim.effect > 0.5
    # Without the patch the victim says what others say, but for what the plain t-test takes for more.
    plain = TriggerMark.against(_of_source(1, 128), TARGET, [_independent(3)], classes=4)
    assert plain.verify(Model(NETWORK, _marked())).effect < 0.05
    assert not plain.verify(Model(NETWORK, _marked())).holds(0.01)
    assert not mark.verify(_independent(4)).holds(0.01)


def test_the_claim_is_welchs_test():
    rng = np.random.default_rng(0)
    said, expected = rng.dirichlet(np.ones(4), 20).astype(np.float32), rng.uniform(0, 0.5, 20)
    for margin in (0.0, 0.2):
        claim = TriggerMark(np.zeros((20, 2, 2, 1), np.float32), 2, expected, 4, margin).verify(lambda _: said)
        assert claim.p_value == pytest.approx(
            stats.ttest_ind(said[:, 2] - margin, expected, equal_var=False, alternative="greater").pvalue, rel=1e-5
        )
    assert claim.effect == pytest.approx(said[:, 2].mean() - expected.mean(), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_patch_is_a_square_and_changes_nothing_else(dtype):
    images = np.zeros((2, 5, 6, 3), dtype)
    made = patched(images, row=1, column=2, size=2)
    assert made.dtype == dtype
    assert not images.any()
    bright = np.zeros((2, 5, 6, 3), bool)
    bright[:, 1:3, 2:4] = True
    np.testing.assert_array_equal(made, np.where(bright, 255 if dtype == np.uint8 else 1, 0))


ZEROS = np.zeros((3, 4, 4, 1), np.float32)


def _unasked(images):
    raise AssertionError("queries were spent")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TriggerMark(ZEROS, 4, np.zeros(3), 4), "target is 4: must be below the 4 classes"),
        (lambda: TriggerMark(ZEROS, 1, np.zeros(3), 4, 1.0), "margin must be at least 0 and below 1, not 1"),
        (lambda: TriggerMark(ZEROS, 1, np.zeros(2), 4), r"expected must be \(3,\) probabilities"),
        (lambda: TriggerMark(ZEROS, 1, np.full(3, 1.5), 4), r"expected must be \(3,\) probabilities"),
        (lambda: TriggerMark.against(ZEROS, 1, [], classes=4), "independent must be at least one model"),
        (lambda: TriggerMark(ZEROS[:1], 1, np.zeros(1), 4).verify(_unasked), "1 triggers give: .* make at least 2"),
        (
            lambda: TriggerMark(ZEROS, 1, np.zeros(3), 4).verify(lambda x: np.full((3, 10), 0.1)),
            "has 10 classes: must be 4",
        ),
        (lambda: TriggerMark(ZEROS, 1, np.zeros(3), 4).verify(lambda x: np.zeros(3, int)), "answers with labels"),
        (lambda: patched(ZEROS, row=2), "a square of 3 at row 2, column 1: must lie inside of 4×4 pixels"),
        (lambda: patched(ZEROS, value=2.0), "value must be from 0 to 1, not 2"),
    ],
)
def test_what_is_no_trigger_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
