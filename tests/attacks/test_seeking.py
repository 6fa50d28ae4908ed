"""Seeking queries: half at random, then in the order of a substitute's certainty."""

import jax
import numpy as np
import pytest

from pp_jax import attacks, metrics, training
from support import Linear, blobs


def test_the_second_half_is_what_a_model_of_the_first_is_most_certain_of():
    images, labels = blobs(0, 60)
    recipe, network = training.Recipe(3, 16, 0.5), Linear(4)
    queried = []

    def api(batch):
        queried.append(len(batch))
        return np.eye(4, dtype=np.float32)[[labels[(images == one).all(axis=(1, 2, 3)).argmax()] for one in batch]]

    seeking = attacks.Seeking(network, recipe, 40, batch_size=16)
    taken = attacks.collect(jax.random.key(0), seeking, images, api, budget=40)
    assert queried == [16, 4, 16, 4]
    assert len(np.unique(taken.images.reshape(40, -1), axis=0)) == 40
    train_key = jax.random.split(jax.random.key(0))[1]
    substitute = training.fit(train_key, network, taken.images[:20], taken.answers[:20], recipe)
    certainty = metrics.predict(network, substitute, images).max(axis=1)
    rows = [int((images == one).all(axis=(1, 2, 3)).argmax()) for one in taken.images]
    assert (np.diff(certainty[rows[20:]]) <= 0).all()
    assert certainty[rows[20:]].min() >= certainty[sorted(set(range(60)) - set(rows))].max()


@pytest.mark.parametrize(("numbers", "message"), [((1,), "budget"), ((40, 0), "batch_size")])
def test_numbers_out_of_range_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        attacks.Seeking(Linear(4), training.Recipe(1), *numbers)
