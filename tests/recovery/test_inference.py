"""Defense inference: what responses look like, which defense they went through, and what is made of it."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

import smallworld as small
from pp_jax import perturb
from pp_jax.defenses import KeyedSwap, ReverseSigmoid, Rounding, Top1, chain
from pp_jax.recovery import (
    CANDIDATES,
    DefenseInference,
    HardLabel,
    Knowledge,
    NoResponses,
    infer_defense,
    likely_partners,
    telling,
)
from pp_jax.recovery.candidates import Candidate, Own, one_decimal, raised_by, undefended
from pp_jax.recovery.imagining import imagine, responded
from pp_jax.recovery.traits import class_distances, traits
from pp_jax.types import Query, TransferSet

KEY = jax.random.key(0)
BY_NAME = {candidate.name: candidate for candidate in CANDIDATES}
FEW = tuple(BY_NAME[name] for name in ("none", "rounding", "least likely class", "reverse sigmoid"))
OPTIONS = {"candidates": FEW, "sets": 24, "size": 128}


@pytest.fixture(scope="module")
def clean():
    """Posteriors of the small world's victim on its pool, a little surer, with the images."""
    logits = jax.vmap(small.network(), (None, 0))(small.victim().params, small.pool().images)
    return small.pool().images, np.asarray(jax.nn.softmax(2 * logits))


def answers(defense, clean):
    images, probs = clean
    key = KEY if defense.random else None
    return TransferSet(images, np.asarray(perturb(defense, probs, images, key=key)))


def posteriors(rows, classes, seed=0):
    bias = np.linspace(-2, 2, classes)
    return np.asarray(jax.nn.softmax(np.random.default_rng(seed).normal(size=(rows, classes)) * 2 + bias), np.float32)


@given(rows=st.integers(2, 40), classes=st.integers(2, 12), seed=st.integers(0, 99))
def test_traits_are_finite_and_do_not_depend_on_the_order_of_rows_or_classes(rows, classes, seed):
    rng = np.random.default_rng(seed)
    some = rng.dirichlet(np.full(classes, 0.3), rows).astype(np.float32)
    found = traits(some)
    assert np.isfinite(found).all()
    assert found.shape == traits(np.eye(2, dtype=np.float32)).shape
    np.testing.assert_allclose(traits(some[rng.permutation(rows)][:, rng.permutation(classes)]), found, atol=1e-4)


@pytest.mark.parametrize("rows", [np.zeros((4, 3)), np.eye(3), np.full((4, 3), 1 / 3), np.float32([[1, 0], [1, 0]])])
def test_traits_of_degenerate_responses_are_finite(rows):
    assert np.isfinite(traits(rows)).all()


def test_classes_are_as_far_apart_as_scipy_says():
    probs = posteriors(3000, 4)
    logs = np.log(probs + 1e-7)
    wanted = [[wasserstein_distance(a, b) for b in logs.T] for a in logs.T]
    np.testing.assert_allclose(class_distances(probs), wanted, rtol=0.1, atol=0.05)


def test_exchanged_classes_are_found_from_the_responses_alone():
    partners = np.array([3, 5, 4, 0, 2, 1])
    probs = posteriors(1500, 6)
    swapped = np.where(np.random.default_rng(1).random((1500, 1)) < 0.5, probs[:, partners], probs)
    assert likely_partners(swapped).tolist() == partners.tolist()


@pytest.mark.parametrize("epsilon", [0.3, 0.9, 1.3])
def test_the_budget_of_a_move_towards_one_class_is_read_exactly(epsilon):
    defense = BY_NAME["least likely class"].make(Own(small.network(), small.victim().params, None), epsilon)
    each = jax.vmap(lambda y, image: defense(y, Query(image, None)))
    seen = np.asarray(each(posteriors(200, 4), small.pool().images[:200]))
    assert raised_by(seen, epsilon + 0.08) == pytest.approx(epsilon, abs=0.01)
    assert raised_by(seen[:0], 0.7) == 0.7


def test_imagined_sets_are_posteriors_with_pairs_and_are_answered_as_by_the_defense():
    sets = imagine(KEY, 3, 5, 4)
    np.testing.assert_allclose(sets.probs.sum(axis=2), 1, atol=1e-5)
    assert all((pairs[pairs] == np.arange(4)).all() for pairs in sets.partners)
    args = small.network(), small.victim().params, small.pool().images[:5], sets
    np.testing.assert_allclose(responded(BY_NAME["none"], *args), sets.probs, atol=1e-6)
    one = Candidate("rounding", one_decimal)
    seen = np.asarray(responded(one, *args))
    wanted = perturb(Rounding(1), sets.probs.reshape(15, 4), np.zeros((15, 1, 1, 1), np.float32))
    np.testing.assert_allclose(seen.reshape(15, 4), wanted, atol=1e-6)


def test_the_classifier_separates_what_differs_and_is_compiled_once():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 32)
    seen = rng.normal(size=(64, 5)) + 3 * labels[:, None]
    teller = telling.learn(KEY, seen, labels, np.full(64, 0.25), candidates=2)
    again = telling.learn(jax.random.key(1), seen + 1, labels, np.full(64, 0.75), candidates=2)
    assert telling.learn._cache_size() == 1
    scores, places = teller(seen)
    assert (scores.argmax(axis=1) == labels).mean() > 0.95
    own = np.take_along_axis(np.asarray(places), labels[:, None], 1)
    np.testing.assert_allclose(own, 0.25, atol=0.15)
    assert np.asarray(again(seen + 1)[1]).shape == (64, 2)


@pytest.fixture(scope="module")
def least(clean):
    """Responses that were moved by 0.9 towards the least likely class."""
    own = Own(small.network(), small.victim().params, None)
    return answers(BY_NAME["least likely class"].make(own, 0.9), clean)


@pytest.mark.slow
def test_a_defense_is_told_from_its_responses(clean, least):
    for responses, name in ((TransferSet(*clean), "none"), (answers(Rounding(1), clean), "rounding")):
        assert infer_defense(KEY, responses, small.network(), **OPTIONS).candidate.name == name
    found = infer_defense(KEY, least, small.network(), **OPTIONS)
    assert found.candidate.name == "least likely class"
    assert found.strength == pytest.approx(0.9, abs=0.02)
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_what_is_inferred_is_undone_without_a_look_at_the_defense(clean, least):
    told = Knowledge(small.network(), small.RECIPE, presumed="never looked at", deployed="nor this")
    found = DefenseInference(**OPTIONS)(KEY, least, knowledge=told)
    off, as_given = (np.abs(np.asarray(rows) - clean[1]).sum(axis=1).mean() for rows in (found.answers, least.answers))
    assert off < as_given / 3


def test_labels_stay_labels_and_every_defense_is_met():
    labels = TransferSet(np.zeros((3, 8, 8, 1), np.uint8), np.array([0, 1, 2]))
    assert DefenseInference()(KEY, labels, knowledge=None) is labels
    assert NoResponses()(KEY, labels, knowledge=None).answers.shape == (0,)
    for defense in (chain(), Top1(), ReverseSigmoid(1.0), KeyedSwap(None, np.arange(4))):
        assert DefenseInference().applies_to(defense)
        assert NoResponses().applies_to(defense)


def test_the_list_names_a_recovery_for_every_defense():
    assert isinstance(BY_NAME["ModelGuard-W"].recovery, HardLabel)
    assert len({(candidate.name, candidate.make) for candidate in CANDIDATES}) == len(CANDIDATES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": FEW[:1]}, "must be at least 2 of each"),
        ({"sets": 1}, "sets must be a whole number"),
        ({"size": 1}, "size must be a whole number"),
    ],
)
def test_bad_inputs_are_refused_in_one_line(clean, change, message):
    with pytest.raises(ValueError, match=message) as error:
        infer_defense(KEY, TransferSet(*clean), small.network(), **{**OPTIONS, **change})
    assert "\n" not in str(error.value)


def test_a_range_that_is_none_is_refused():
    with pytest.raises(ValueError, match="low at most high"):
        Candidate("none", undefended, 1.0, 0.5)
