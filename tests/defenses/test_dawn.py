"""DAWN: a share of the responses is wrong, always the same for an image, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import perturb
from pp_jax.defenses import DAWN
from support import hard_posteriors

KEY = jax.random.key(5)
RNG = np.random.default_rng(0)
IMAGES = RNG.random((3000, 1, 1, 1), np.float32)
PROBS = hard_posteriors(RNG, 3000, 5).astype(np.float32)


def _answers(share, key=KEY, rows=slice(None)):
    """Responses to a batch."""
    return np.asarray(perturb(DAWN(share), jnp.asarray(PROBS[rows]), jnp.asarray(IMAGES[rows]), key=key))


def test_responses_are_reordered_posteriors_whose_two_entries_are_exchanged():
    answers = _answers(0.3)
    np.testing.assert_allclose(np.sort(answers, 1), np.sort(PROBS, 1), rtol=3e-7, atol=2e-38)
    changed = (np.abs(answers - PROBS) > 1e-6).sum(1)
    assert set(changed) <= {0, 2}


def test_the_share_is_wrong_and_the_wrong_class_is_drawn_uniformly():
    probs = np.tile(np.float32([0.05, 0.6, 0.2, 0.1, 0.05]), (3000, 1))
    answers = np.asarray(perturb(DAWN(0.4), jnp.asarray(probs), jnp.asarray(IMAGES), key=KEY)).argmax(1)
    counts = np.bincount(answers, minlength=5)
    assert abs(counts[1] / 3000 - 0.6) < 0.03
    np.testing.assert_allclose(counts[[0, 2, 3, 4]] / 3000, 0.1, atol=0.02)


def test_an_image_has_one_response_wherever_it_is_asked_about():
    rows = np.random.default_rng(1).permutation(3000)[:500]
    np.testing.assert_allclose(_answers(0.3)[rows], _answers(0.3, rows=rows), rtol=3e-7, atol=2e-38)
    assert (_answers(0.3, jax.random.key(6)) != _answers(0.3)).any()


@pytest.mark.parametrize(("share", "wrong"), [(0.0, 0.0), (1.0, 1.0)])
def test_no_share_changes_nothing_and_all_of_it_everything(share, wrong):
    probs = np.tile(np.float32([0.1, 0.9]), (50, 1))
    answers = np.asarray(perturb(DAWN(share), jnp.asarray(probs), jnp.asarray(IMAGES[:50]), key=KEY))
    assert (answers.argmax(1) == 0).mean() == wrong


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="share must be at least 0 and at most 1"):
        DAWN(share)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="DAWN needs at least 2 classes to exchange, not 1"):
        DAWN()(jnp.ones(1), None)
