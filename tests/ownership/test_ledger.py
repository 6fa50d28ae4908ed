"""A copy repeats the ledger of its client, an independent model does not, and the binomial test holds its level."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import marked
from pp_jax import Top1, chain, perturb
from pp_jax.defenses import DAWN, KeyedSwap, RandomNoise
from pp_jax.ownership import Ledger, LedgerMark, binomial_tail

RNG = np.random.default_rng(0)
IMAGES = RNG.random((300, 2, 2, 1), np.float32)
PROBS = RNG.dirichlet(np.full(10, 0.3), 300).astype(np.float32)
KEY = jax.random.key(3)


@pytest.mark.slow
def test_a_stolen_copy_is_claimed_and_an_independent_model_is_not():
    mark = LedgerMark(marked.ledger())
    assert len(marked.ledger()) > 10
    assert mark.verify(marked.stolen(), key=marked.KEY).holds(0.001)
    for seed in (3, 4):
        assert not mark.verify(marked.independent(seed)).holds(0.05)


def test_the_victim_itself_is_not_claimed_as_it_never_gives_a_wrong_response_by_itself():
    claim = LedgerMark(marked.ledger()).verify(marked.clean)
    assert claim == (1.0, 0.0, len(marked.ledger()))


def test_the_ledger_holds_the_responses_that_were_given_wrongly():
    answers = np.asarray(perturb(DAWN(0.2), jnp.asarray(PROBS), jnp.asarray(IMAGES), key=KEY))
    wrong = answers.argmax(1) != PROBS.argmax(1)
    ledger = Ledger.of(DAWN(0.2), KEY, IMAGES, PROBS)
    np.testing.assert_array_equal(ledger.images, IMAGES[wrong])
    np.testing.assert_array_equal(ledger.given, answers[wrong].argmax(1))
    np.testing.assert_array_equal(ledger.clean, PROBS[wrong].argmax(1))


def test_a_chain_has_the_ledger_of_the_mark_inside_it():
    inner = chain(RandomNoise(0.0), chain(DAWN(0.2), Top1()))
    answers = np.asarray(perturb(inner, jnp.asarray(PROBS), jnp.asarray(IMAGES), key=KEY))
    ledger = Ledger.of(inner, KEY, IMAGES, PROBS)
    wrong = answers.argmax(1) != PROBS.argmax(1)
    np.testing.assert_array_equal(ledger.given, answers[wrong].argmax(1))


def test_a_repeated_image_counts_once():
    twice = Ledger.of(DAWN(1.0), KEY, np.tile(IMAGES[:5], (2, 1, 1, 1)), np.tile(PROBS[:5], (2, 1)))
    assert len(twice) == 5


def test_the_level_is_held_over_keys_by_a_model_that_is_often_wrong():
    labels = np.random.default_rng(1).integers(0, 10, 300)
    found = np.array([_p_value(labels, jax.random.key(seed)) for seed in range(300)])
    for level in (0.01, 0.05, 0.2, 0.5):
        assert (found <= level).mean() <= level + 2.5 * np.sqrt(level * (1 - level) / 300)
    # Discrete as it is, it does not waste the level either.
    assert (found <= 0.2).mean() > 0.08


def _p_value(labels, key):
    """Of a suspect with given labels, under another key of the defender's."""
    ledger = Ledger.of(DAWN(0.15), key, IMAGES, PROBS)
    rows = [int(np.flatnonzero((image == IMAGES).all((1, 2, 3)))[0]) for image in ledger.images]
    return LedgerMark(ledger).verify(marked.saying(labels[rows], 10)).p_value


def test_a_given_chance_is_tested_against_all_entries():
    ledger = Ledger.of(DAWN(0.1), KEY, IMAGES, PROBS)
    count = len(ledger)
    agreeing = np.where(np.arange(count) < 5, ledger.given, ledger.clean)
    claim = LedgerMark(ledger, 0.2).verify(marked.saying(agreeing, 10))
    assert claim == (binomial_tail(5, count, 0.2), 5 / count, count)


def test_the_chance_of_independent_models_is_measured_and_never_zero():
    ledger = Ledger.of(DAWN(0.1), KEY, IMAGES, PROBS)
    never = LedgerMark.against(ledger, [marked.saying(ledger.clean, 10)])
    always = LedgerMark.against(ledger, [marked.saying(ledger.given, 10)])
    assert never.chance == 1 / (1 + len(ledger))
    assert always.chance == len(ledger) / (1 + len(ledger))


def test_a_swaps_ledger_needs_a_chance():
    ledger = Ledger.of(KeyedSwap(None, jnp.arange(10) ^ 1), KEY, IMAGES, PROBS)
    assert len(ledger) > 100
    with pytest.raises(ValueError, match=r"chance is None: must be given .* LedgerMark\.against"):
        LedgerMark(ledger)


def _first(count):
    """A ledger of so many entries."""
    whole = Ledger.of(DAWN(0.5), KEY, IMAGES, PROBS)
    return dataclasses.replace(whole, images=whole.images[:count], given=whole.given[:count], clean=whole.clean[:count])


def _unasked(images):
    raise AssertionError("queries were spent")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: LedgerMark(_first(2)).verify(_unasked),
            "the ledger has 2 entries, .* at least 0.012, must reach 0.01",
        ),
        (lambda: LedgerMark(_first(0)).verify(_unasked), "the ledger has 0 entries"),
        (lambda: LedgerMark(_first(9)).verify(_unasked, key=jax.random.key(4)), "the ledger was made with another key"),
        (lambda: LedgerMark(_first(9)).verify(_unasked, significance=0.0), "significance must be above 0"),
        (
            lambda: LedgerMark(_first(9)).verify(lambda x: np.zeros(len(x), int)),
            r"answers with labels \(9,\): .*np\.eye",
        ),
        (lambda: LedgerMark(_first(9)).verify(lambda x: np.full((len(x), 4), 0.25)), "has 4 classes: must be 10"),
        (lambda: LedgerMark(_first(9)).verify(lambda x: np.full((len(x), 10), np.nan)), "must be finite: 9 of 9"),
        (lambda: LedgerMark(_first(9), 1.0), "chance must be above 0 and below 1, not 1"),
        (lambda: LedgerMark.against(_first(9), []), "there must be models and entries, not 0 and 9"),
        (lambda: Ledger.of(Top1(), KEY, IMAGES, PROBS), "Top1 keeps no ledger: must be DAWN or KeyedSwap"),
        (lambda: Ledger.of(DAWN(), 3, IMAGES, PROBS), "key is 3: must be a random key"),
        (lambda: Ledger.of(DAWN(), KEY, IMAGES[:5], PROBS), "images and probs must be as many: 5 and 300"),
    ],
)
def test_what_cannot_be_verified_is_refused_in_one_line_before_queries_are_spent(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
