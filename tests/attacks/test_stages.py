"""A budget split over rounds: every query belongs to one stage, and no round is empty."""

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from pp_jax import training
from pp_jax.attacks.stages import check_share, held_out, split, substitutes
from pp_jax.training.predicting import predict
from support import Linear, blobs

IMAGES, LABELS = blobs(0, 48)
ANSWERS = np.eye(4, dtype=np.float32)[LABELS]
RECIPE = training.Recipe(3, 16, 0.5)


@hypothesis.given(
    st.integers(1, 5000), st.integers(1, 20), st.floats(0, 0.6, exclude_max=True), st.floats(0, 0.4, exclude_max=True)
)
def test_stages_end_at_the_budget_and_none_is_empty(budget, rounds, seed, validation):
    first = held_out(budget, validation) + max(1, round(seed * budget))
    if budget - first < rounds:
        with pytest.raises(ValueError, match="must be larger"):
            split(budget, rounds, seed, validation)
        return
    ends = split(budget, rounds, seed, validation)
    sizes = np.diff((0, *ends))
    assert ends[-1] == budget
    assert len(sizes) == rounds + 1
    assert sizes.min() >= 1
    assert sizes[1:].max() - sizes[1:].min() <= 1
    assert sizes[0] == first


def test_the_published_split():
    assert split(1000, 10, 0.1, 0.2)[:3] == (300, 370, 440)


def test_what_cannot_be_split_is_refused_in_one_line():
    with pytest.raises(ValueError, match="budget is 12: must be larger for 10 rounds, as the first 3 queries come"):
        split(12, 10, 0.1, 0.2)
    with pytest.raises(ValueError, match="seed_share is 1: must be at least 0 and below 1"):
        check_share("seed_share", 1)


def test_held_out_responses_choose_the_epoch_and_are_not_trained_on():
    network, (params,) = substitutes(jax.random.key(0), Linear(4), IMAGES, ANSWERS, RECIPE, validation=12)
    best = training.Best(network, IMAGES[:12], ANSWERS[:12])
    training.fit(jax.random.key(0), network, IMAGES[12:], ANSWERS[12:], RECIPE, on_epoch=best)
    jax.tree.map(np.testing.assert_array_equal, params, best.params)


@pytest.mark.slow
@pytest.mark.parametrize("answers", [ANSWERS, LABELS], ids=["posteriors", "labels"])
def test_a_committee_is_as_many_networks_each_as_trained_alone(answers):
    key = jax.random.key(0)
    network, members = substitutes(key, Linear(4), IMAGES, answers, RECIPE, members=3)
    for own, params in zip(jax.random.split(key, 3), members, strict=True):
        alone = training.fit(own, network, IMAGES, answers, RECIPE)
        np.testing.assert_allclose(predict(network, params, IMAGES), predict(network, alone, IMAGES), atol=1e-4)
