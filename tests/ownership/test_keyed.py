"""A copy fits the key that was used; for everybody else that key is one of many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import marked
from pp_jax import RandomNoise, Top1, chain, perturb
from pp_jax.defenses import DAWN, KeyedSwap, ModelGuardS
from pp_jax.ownership import OtherKeys
from support import linear_logits, linear_params

RNG = np.random.default_rng(0)
IMAGES = RNG.random((60, 2, 2, 1), np.float32)
PROBS = RNG.dirichlet(np.ones(4), 60).astype(np.float32)
KEY = jax.random.key(3)


def test_a_stolen_copy_is_claimed_and_an_independent_model_is_not():
    images, _, probs = marked.responses()
    mark = OtherKeys(images, probs, marked.DEFENSE, marked.KEY)
    claim = mark.verify(marked.stolen())
    assert claim.p_value == 1 / 200
    assert claim.effect > 4
    for seed in (3, 4):
        assert not mark.verify(marked.independent(seed)).holds(0.05)


@pytest.mark.parametrize(
    "defense",
    [
        DAWN(0.1),
        KeyedSwap(None, jnp.array([1, 0, 3, 2]), 1.0),
        chain(DAWN(0.3), Top1()),
        RandomNoise(1.0),
    ],
    ids=["DAWN", "KeyedSwap", "DAWN, Top1", "noise"],
)
def test_p_values_of_an_independent_model_are_uniform_over_keys(defense):
    said = np.random.default_rng(1).dirichlet(np.ones(4), len(IMAGES)).astype(np.float32)
    keys = jax.random.split(jax.random.key(11), 200)
    found = [
        OtherKeys(IMAGES, PROBS, defense, key, 19).verify(lambda _: said, significance=0.05).p_value for key in keys
    ]
    assert set(np.round(20 * np.array(found), 6)) <= set(range(1, 21))
    counts = np.histogram(found, bins=np.linspace(0, 1, 6) + 1e-9)[0]
    assert stats.chisquare(counts).pvalue > 0.001


def test_the_mark_of_a_swap_is_in_its_own_responses():
    defense = KeyedSwap(None, jnp.array([1, 0, 3, 2]), 1.0)
    answers = np.asarray(perturb(defense, jnp.asarray(PROBS), jnp.asarray(IMAGES), key=KEY))
    mark = OtherKeys(IMAGES, PROBS, defense, KEY)
    assert mark.verify(lambda _: answers).holds(0.005)
    assert not mark.verify(lambda _: PROBS).holds(0.05)


def test_another_victims_key_claims_nothing():
    images, _, probs = marked.responses()
    other = OtherKeys(images, probs, marked.DEFENSE, jax.random.key(8))
    assert not other.verify(marked.stolen()).holds(0.05)


@pytest.mark.slow
def test_responses_under_many_keys_are_those_of_perturb():
    defense = chain(DAWN(0.3), RandomNoise(0.5))
    mark = OtherKeys(IMAGES, PROBS, defense, KEY, 2)
    expected = perturb(defense, jnp.asarray(PROBS), jnp.asarray(IMAGES), key=KEY)
    np.testing.assert_allclose(mark._responses[0], expected, atol=1e-6)
    assert len(mark._responses) == 3


def test_a_suspect_that_answers_in_one_hots_is_verified_as_well():
    defense = DAWN(0.3)
    answers = np.asarray(perturb(defense, jnp.asarray(PROBS), jnp.asarray(IMAGES), key=KEY))
    hard = np.eye(4, dtype=np.float32)[answers.argmax(1)]
    assert OtherKeys(IMAGES, PROBS, defense, KEY).verify(lambda _: hard).holds(0.005)


def _unasked(images):
    raise AssertionError("queries were spent")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OtherKeys(IMAGES, PROBS, Top1(), KEY), "Top1 draws nothing with the key: chain it with a mark"),
        (lambda: OtherKeys(IMAGES, PROBS, ModelGuardS(0.5, 4), KEY), "ModelGuardS remembers its answers"),
        (lambda: OtherKeys(IMAGES, PROBS, DAWN(), 3), "key is 3: must be a random key"),
        (lambda: OtherKeys(IMAGES[:2], PROBS, DAWN(), KEY), "images and probs must be as many: 2 and 60"),
        (lambda: OtherKeys(IMAGES, PROBS, DAWN(), KEY, 0), "others must be a whole number of at least 1"),
        (lambda: OtherKeys(IMAGES, PROBS, DAWN(), KEY, 9).verify(_unasked), "9 other keys give: .* at least 0.1"),
        (lambda: OtherKeys(IMAGES, PROBS, DAWN(), KEY).verify(lambda x: PROBS[:, :3]), "has 3 classes: must be 4"),
        (lambda: OtherKeys(IMAGES, PROBS, DAWN(), KEY).verify(lambda x: PROBS.argmax(1)), "answers with labels"),
    ],
)
def test_what_cannot_be_verified_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_victim_may_be_any_function():
    params = linear_params(KEY, 4, 4)
    said = np.asarray(jax.nn.softmax(jax.vmap(lambda image: linear_logits(params, image))(jnp.asarray(IMAGES))))
    assert not OtherKeys(IMAGES, said, DAWN(0.2), KEY).verify(lambda _: said).holds(0.01)
