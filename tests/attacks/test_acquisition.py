"""Rules of choice: each is the formula by other means, and returns different rows."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import scipy.stats

from pp_jax.attacks import DFAL, DFALKCenter, Entropy, KCenter, Known, RareClasses
from pp_jax.attacks.acquisition import _log_density, entropies, farthest_first
from support import linear_logits, linear_params

KEY = jax.random.key(0)
SIDE, K = 3, 4
RNG = np.random.default_rng(0)
POOL = RNG.random((40, SIDE, SIDE, 1), np.float32)
QUERIED = RNG.random((12, SIDE, SIDE, 1), np.float32)
MEMBERS = tuple(linear_params(jax.random.key(seed), SIDE * SIDE, K) for seed in range(2))


class Featured:
    """`linear_logits` whose features are the pixels; all are equal."""

    def __call__(self, params, image):
        return linear_logits(params, image)

    def features(self, params, image):
        """The pixels."""
        del params
        return image.ravel()

    def __eq__(self, other):
        return isinstance(other, Featured)

    def __hash__(self):
        return hash(Featured)


def _probs(images, params):
    scores = images.reshape(len(images), -1).astype(np.float64) @ np.asarray(params["params"]["kernel"], np.float64)
    return scipy.special.softmax(scores, axis=1)


def _known(members=MEMBERS[:1], answers=None, budget=100):
    answers = _probs(QUERIED, MEMBERS[1]) if answers is None else answers
    return Known(Featured(), members, QUERIED, answers, budget)


@pytest.mark.parametrize("count", [1, 2])
def test_the_largest_entropies_of_the_mean_posterior_are_chosen(count):
    members = MEMBERS[:count]
    mean = np.mean([_probs(POOL, params) for params in members], axis=0)
    rows = Entropy()(KEY, _known(members), POOL, 7)
    np.testing.assert_array_equal(rows, np.argsort(-scipy.stats.entropy(mean, axis=1))[:7])


@hypothesis.given(st.integers(0, 10_000))
def test_entropies_are_those_of_scipy_also_where_a_probability_is_zero(seed):
    probs = np.random.default_rng(seed).dirichlet(np.full(K, 0.05), 20)
    probs[0] = np.eye(K)[0]
    np.testing.assert_allclose(entropies(probs), scipy.stats.entropy(probs, axis=1), atol=1e-12)


@hypothesis.given(st.integers(0, 10_000), st.integers(1, 12))
def test_farthest_first_is_greedy_k_center(seed, count):
    rng = np.random.default_rng(seed)
    points, centres = rng.dirichlet(np.ones(K), 15), rng.dirichlet(np.ones(K), 4)
    chosen = []
    for _ in range(count):
        gaps = scipy.spatial.distance.cdist(points, np.concatenate([centres, points[chosen]])).min(axis=1)
        gaps[chosen] = -1
        chosen.append(int(gaps.argmax()))
    np.testing.assert_array_equal(farthest_first(points, centres, count), chosen)


def test_points_that_are_all_the_same_are_chosen_once_each():
    assert sorted(farthest_first(np.ones((5, K)) / K, np.ones((2, K)) / K, 5)) == [0, 1, 2, 3, 4]


def test_k_center_is_in_the_space_of_posteriors_and_begins_at_what_was_queried():
    expected = farthest_first(_probs(POOL, MEMBERS[0]), _probs(QUERIED, MEMBERS[0]), 9)
    np.testing.assert_array_equal(KCenter()(KEY, _known(), POOL, 9), expected)


def _distances(images, params):
    """To the nearest boundary of a linear network."""
    kernel, found = np.asarray(params["params"]["kernel"], np.float64), []
    for row in images.reshape(len(images), -1) @ kernel:
        c = row.argmax()
        found.append(min((row[c] - row[k]) / np.linalg.norm(kernel[:, c] - kernel[:, k]) for k in range(K) if k != c))
    return np.array(found)


def test_dfal_takes_what_is_nearest_to_a_boundary_and_k_center_chooses_among_that():
    near = np.argsort(_distances(POOL, MEMBERS[0]))
    np.testing.assert_array_equal(DFAL()(KEY, _known(), POOL, 8), near[:8])
    both = DFALKCenter(kept=15)(KEY, _known(), POOL, 8)
    assert set(both) <= set(near[:15])
    np.testing.assert_array_equal(both, near[:15][KCenter()(KEY, _known(), POOL[near[:15]], 8)])
    assert set(DFALKCenter()(KEY, _known(budget=12), POOL, 5)) <= set(near[:12])


def test_densities_are_sums_of_gaussians_and_do_not_underflow():
    points, centres = 30 * RNG.normal(size=(6, 5)), RNG.normal(size=(3, 5))
    squares = scipy.spatial.distance.cdist(points, centres, "sqeuclidean")
    expected = scipy.special.logsumexp(-squares / (2 * 0.5**2), axis=1)
    np.testing.assert_allclose(_log_density(points, centres, 0.5), expected, rtol=1e-9)


def test_while_queries_are_plenty_rare_classes_are_left_to_entropy():
    answers = np.zeros(12, int)
    known = _known(answers=answers, budget=12 + 10)  # 9 are lacking: three classes, three each
    np.testing.assert_array_equal(RareClasses()(KEY, known, POOL, 5), Entropy()(KEY, known, POOL, 5))


def test_then_the_rarest_class_is_filled_up_with_what_looks_like_it():
    answers = np.array([0] * 7 + [1] * 4 + [2])  # none of class 3: it has no looks
    known = _known(answers=answers, budget=12 + 5)
    densities = _log_density(POOL.reshape(40, -1), QUERIED[11:].reshape(1, -1), 1.0)
    rows = RareClasses()(KEY, known, POOL, 4)
    np.testing.assert_array_equal(rows[:2], np.argsort(-densities)[:2])  # μ = 3: two are lacking
    assert len(set(rows)) == 4
    assert len(set(RareClasses()(KEY, known, POOL, 40))) == 40


def test_features_are_those_of_the_first_member_for_any_number_of_images():
    np.testing.assert_array_equal(_known().features(jnp.asarray(POOL)), POOL.reshape(40, -1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DFAL(steps=0), "steps"),
        (lambda: DFAL(classes=1), "classes"),
        (lambda: DFALKCenter(kept=0), "kept"),
        (lambda: RareClasses(0), "bandwidth must be above 0"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
