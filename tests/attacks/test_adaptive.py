"""Adaptive Knockoff: published numbers, a policy that stays finite, no image twice, and classes that pay asked more."""

import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pp_jax.attacks import AdaptiveKnockoff, Certainty, Diversity, Knockoff, Loss, collect, policy
from pp_jax.attacks.rewards import no_moments, normalized_mean
from pp_jax.training import make_step
from support import Linear, golden, hard_posteriors

PIECES = [1, 7, 30]


def _pool(count):
    """Images that are their own number."""
    return np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1) / count


def _numbers(images, count):
    """Which images of `_pool(count)` these are."""
    return np.rint(np.asarray(images).ravel() * count).astype(int)


def _in_pieces(reward, size, answers, guesses):
    """The rewards of all answers, given to `reward` so many at a time."""
    memory, parts = reward.init(), []
    for i in range(0, len(answers), size):
        values, memory = reward(memory, answers[i : i + size], guesses[i : i + size])
        parts.append(values)
    return np.concatenate(parts)


@pytest.mark.parametrize("size", PIECES)
@pytest.mark.parametrize("classes", [5, 10])
@pytest.mark.parametrize(
    ("reward", "name"),
    [
        (lambda _: Certainty(), "r_cert"),
        (lambda _: Diversity(), "r_div_incl"),
        (lambda _: Diversity(current=False), "r_div_excl"),
        (lambda window: Diversity(window), "r_div_window_incl"),
        (lambda window: Diversity(window, current=False), "r_div_window_excl"),
        (lambda _: Loss(), "r_loss"),
    ],
)
def test_golden_rewards(reward, name, classes, size):
    expected = golden(f"reward_K{classes}")
    values = _in_pieces(reward(int(expected["window"])), size, expected["y"], np.log(expected["y_hat"]))
    np.testing.assert_allclose(values, expected[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", PIECES)
@pytest.mark.parametrize("classes", [5, 10])
def test_golden_normalised_mean_and_bandit(classes, size):
    expected = golden(f"reward_K{classes}")
    values = np.stack([expected[name] for name in ("r_cert", "r_div_incl", "r_loss")], axis=1)
    actions = int(expected["n_actions"])
    tree, left = policy.grow(np.arange(actions)[:, None]), np.full(actions, 10**6)
    bandit, moments = policy.untrained(tree.levels), no_moments(3)
    for end in range(size, len(values) + 1, size):
        part = slice(end - size, end)
        combined, moments = normalized_mean(moments, values[part])
        np.testing.assert_allclose(combined, expected["r_all_art"][part], rtol=0, atol=1e-9)
        bandit = policy.learn(tree, bandit, left, expected["action"][part], combined)
        np.testing.assert_allclose(bandit.preferences[0], expected["bandit_H"][end - 1], rtol=0, atol=1e-9)
        pi = policy.probabilities(tree, bandit.preferences, left)
        np.testing.assert_allclose(pi, expected["bandit_pi"][end - 1], rtol=0, atol=1e-9)


def _sequential(classes, asked, rewards):
    """The published algorithm on the images that were asked about: the policy before each of them, (T, A)."""
    actions = classes.max() + 1
    left, h, chosen, mean, seen = np.bincount(classes), np.zeros(actions), np.zeros(actions), 0.0, []
    for t, (image, reward) in enumerate(zip(asked, rewards, strict=True), start=1):
        weights = np.exp(h) * (left > 0)
        pi = weights / weights.sum()
        seen.append(pi)
        action = classes[image]
        mean += (reward - mean) / t
        chosen[action] += 1
        h += (reward - mean) / chosen[action] * (np.eye(actions)[action] - pi)
        left[action] -= 1
    return np.array(seen)


def test_with_batch_size_1_it_is_the_published_algorithm_until_the_pool_is_exhausted():
    rng = np.random.default_rng(0)
    classes, answers = rng.integers(0, 4, 60), rng.dirichlet(np.ones(3), 60)
    attack = AdaptiveKnockoff(classes, rewards=(Certainty(),))
    state, policies, asked = attack.init(jax.random.key(0), _pool(60)), [], []
    for _ in range(60):
        policies.append(attack.probabilities(state))
        images = attack.ask(state)
        asked.append(int(_numbers(images, 60)[0]))
        state = attack.tell(state, images, answers[asked[-1:]])
    top = np.sort(answers[asked], axis=1)
    np.testing.assert_allclose(policies, _sequential(classes, asked, top[:, -1] - top[:, -2]), rtol=0, atol=1e-12)
    assert len(attack.ask(state)) == 0
    np.testing.assert_array_equal(attack.probabilities(state), np.zeros(4))


def test_a_batch_of_answers_counts_one_after_the_other():
    rng = np.random.default_rng(1)
    tree = policy.grow(np.stack([np.repeat(np.arange(2), 30), np.arange(60) % 6], axis=1))
    left, leaves, rewards = np.bincount(tree.leaf), rng.permutation(tree.leaf), rng.normal(size=60)
    whole = policy.learn(tree, policy.untrained(tree.levels), left, leaves, rewards)
    single = policy.untrained(tree.levels)
    for t in range(60):
        now = left - np.bincount(leaves[:t], minlength=len(left))
        single = policy.learn(tree, single, now, leaves[t : t + 1], rewards[t : t + 1])
    chex.assert_trees_all_close(whole, single, rtol=0, atol=1e-12)


def test_a_batch_is_drawn_like_single_images_from_a_fixed_policy_also_where_classes_run_out():
    rng = np.random.default_rng(2)
    tree = policy.grow(np.stack([rng.integers(0, 3, 80), rng.integers(0, 9, 80)], axis=1))
    preferences = tuple(rng.normal(size=len(level.parent)) for level in tree.levels)
    left, uniforms = np.bincount(tree.leaf), rng.random(100)
    whole = policy.draw(tree, preferences, left, uniforms)
    single, now = [], left.copy()
    for u in uniforms[:80]:
        single.append(policy.draw(tree, preferences, now, np.array([u]))[0])
        now[single[-1]] -= 1
    np.testing.assert_array_equal(whole, single)
    np.testing.assert_array_equal(np.bincount(whole), left)


def test_the_policy_of_a_tree_is_a_product_of_softmaxes():
    tree = policy.grow(np.array([[5, 0], [5, 1], [7, 0], [7, 0]]))
    h = (np.log([1.0, 3.0]), np.log([1.0, 4.0, 9.0]))
    np.testing.assert_array_equal(tree.leaf, [0, 1, 2, 2])
    np.testing.assert_allclose(policy.probabilities(tree, h, np.array([1, 1, 2])), [0.05, 0.2, 0.75])
    np.testing.assert_allclose(policy.probabilities(tree, h, np.array([0, 1, 2])), [0, 0.25, 0.75])
    np.testing.assert_allclose(policy.probabilities(tree, h, np.array([1, 1, 0])), [0.2, 0.8, 0])
    np.testing.assert_array_equal(policy.probabilities(tree, h, np.zeros(3, int)), np.zeros(3))


@pytest.mark.slow
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 40),
    actions=st.integers(1, 8),
    batch_size=st.integers(1, 50),
    deep=st.booleans(),
    rewards=st.sampled_from([(Certainty(),), (Diversity(),), (Diversity(3),), (Certainty(), Diversity())]),
    constant=st.booleans(),
    cut=st.booleans(),
)
def test_the_policy_stays_finite_no_image_is_asked_twice_and_exhausted_classes_never(
    seed, size, actions, batch_size, deep, rewards, constant, cut
):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, actions, (size, 2) if deep else size)
    attack = AdaptiveKnockoff(classes, rewards=rewards, batch_size=batch_size)
    state, asked = attack.init(jax.random.key(seed), _pool(size)), []
    answers = rng.permutation(hard_posteriors(rng, size, 3))
    answers = answers[[0] * size] if constant else answers
    while len(images := attack.ask(state)):
        told = rng.integers(1, len(images) + 1) if cut else len(images)
        asked += list(_numbers(images, size)[:told])
        state = attack.tell(state, images, answers[asked[-told:]])
        pi, left = attack.probabilities(state), state.pool.sizes - state.used
        assert np.isfinite(pi).all()
        assert (pi[left == 0] == 0).all()
        assert left.sum() == size - len(asked)
        np.testing.assert_allclose(pi.sum(), left.any(), atol=1e-12)
        assert all(np.isfinite(h).all() for h in state.bandit.preferences)
    assert sorted(asked) == list(range(size))


@pytest.mark.parametrize("answer", [[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.1, 0.7, 0.2], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_answers_that_are_all_the_same_leave_the_policy_near_uniform(answer, batch_size):
    classes = np.arange(300) % 3
    attack = AdaptiveKnockoff(classes, batch_size=batch_size)
    state = attack.init(jax.random.key(0), _pool(300))
    while state.used.sum() < 150:
        images = attack.ask(state)
        state = attack.tell(state, images, np.tile(np.float32(answer), (len(images), 1)))
    np.testing.assert_allclose(attack.probabilities(state), 1 / 3, atol=0.1)


def test_rewards_of_extreme_answers_are_finite():
    answers = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1e-320, 1.0]])
    guesses = np.array([[-np.inf, 0.0], [-1e30, 0.0], [np.nan, np.nan], [np.nan, -np.inf]])
    for reward in (Certainty(), Diversity(), Diversity(1), Diversity(current=False), Loss()):
        values, _ = reward(reward.init(), answers, guesses)
        assert np.isfinite(values).all()
    combined, _ = normalized_mean(no_moments(2), np.array([[5.0, -1.0], [5.0, 1e6], [5.0, -1.0]]))
    assert combined[0] == 0.5
    assert np.isfinite(combined).all()
    assert np.abs(combined).max() <= np.sqrt(3)
    assert Certainty()(None, np.array([[0.4]]))[0] == 0.4


def _victim(certain, classes, count):
    """An API that is sure of the images of some classes, and of no others."""

    def api(images):
        sure = np.isin(classes[_numbers(images, count)], certain)[:, None]
        return np.where(sure, [[0.98, 0.01, 0.01]], [[0.4, 0.35, 0.25]])

    return api


def _share(attack, classes, certain):
    """Which share of 400 queries went to those classes."""
    count = len(classes)
    stolen = collect(jax.random.key(0), attack, _pool(count), _victim(certain, classes, count), budget=400)
    return np.isin(classes[_numbers(stolen.images, count)], certain).mean()


@pytest.mark.parametrize("batch_size", [1, 20])
def test_a_class_that_the_victim_is_certain_of_is_asked_about_far_more_often_than_at_random(batch_size):
    classes = np.arange(4000) % 10
    assert _share(Knockoff(batch_size), classes, [3]) < 0.15
    assert _share(AdaptiveKnockoff(classes, rewards=(Certainty(),), batch_size=batch_size), classes, [3]) > 0.5


def test_a_superclass_that_the_victim_is_certain_of_is_found_faster_through_the_tree():
    fine = np.arange(4000) % 40
    flat, tree = (
        _share(AdaptiveKnockoff(classes, rewards=(Certainty(),), batch_size=20), fine, range(8, 16))
        for classes in (fine, np.stack([fine // 8, fine], axis=1))
    )
    assert _share(Knockoff(20), fine, range(8, 16)) < 0.25
    assert tree > max(flat + 0.1, 0.6)


def test_one_level_of_a_tree_is_a_flat_set_of_classes():
    classes = np.arange(90) % 5
    flat, tree = (
        collect(jax.random.key(0), AdaptiveKnockoff(c), _pool(90), lambda x: np.c_[x.ravel(), 1 - x.ravel()], budget=60)
        for c in (classes, classes[:, None])
    )
    np.testing.assert_array_equal(flat.images, tree.images)


@pytest.mark.parametrize("budget", [1, 7, 20, 50])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_exactly_the_budget_is_asked_and_no_image_twice(budget, batch_size):
    seen = []

    def api(images):
        seen.append(len(images))
        return np.tile([0.5, 0.5], (len(images), 1))

    stolen = collect(
        jax.random.key(0), AdaptiveKnockoff(np.arange(50) % 3, batch_size=batch_size), _pool(50), api, budget=budget
    )
    assert stolen.queries == sum(seen) == budget
    assert len(np.unique(_numbers(stolen.images, 50))) == budget


def _images(count):
    """Random images for a linear thief."""
    return np.random.default_rng(3).random((count, 2, 2, 1), np.float32)


def test_the_loss_reward_is_that_of_a_thief_trained_along_by_one_step_on_every_batch():
    optimizer, network = optax.sgd(0.5), Linear(3)
    attack = AdaptiveKnockoff(np.arange(40) % 4, rewards=(Loss(),), thief=network, optimizer=optimizer, batch_size=8)
    state, step = attack.init(jax.random.key(0), _images(40)), make_step(network, optimizer)
    answers, total = np.float32(np.random.default_rng(4).dirichlet(np.ones(3), 24)), 0.0
    carry = state.thief
    for part in np.split(answers, 3):
        images = attack.ask(state)
        logits, _ = network.train(carry[0], jnp.asarray(images))
        total += -float(jnp.sum(part * jax.nn.log_softmax(logits)))
        state = attack.tell(state, images, part)
        carry, _ = step(carry, jnp.asarray(images), jnp.asarray(part))
    chex.assert_trees_all_close(state.thief, carry, rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(state.bandit.total, total, rtol=1e-5)


def test_the_thief_learns_in_float64_mode_and_from_half_precision_images():
    with jax.enable_x64(True):
        attack = AdaptiveKnockoff(np.arange(40) % 4, rewards=(Certainty(), Loss()), thief=Linear(3), batch_size=8)
        stolen = collect(
            jax.random.key(0), attack, np.float16(_images(40)), lambda x: np.full((len(x), 3), 1 / 3), budget=20
        )
    assert stolen.queries == 20


def test_all_three_rewards_with_a_thief_that_diverges_stay_finite():
    rewards = (Certainty(), Diversity(), Loss())
    attack = AdaptiveKnockoff(
        np.arange(60) % 4, rewards=rewards, thief=Linear(3), optimizer=optax.sgd(float("inf")), batch_size=5
    )
    state = attack.init(jax.random.key(0), _images(60))
    for _ in range(6):
        images = attack.ask(state)
        state = attack.tell(state, images, np.eye(3, dtype=np.float32)[np.arange(5) % 3])
    assert np.isnan(state.thief[0]["params"]["kernel"]).any()
    assert np.isfinite(state.bandit.preferences[0]).all()


def test_telling_leaves_the_state_before_as_it_was():
    attack = AdaptiveKnockoff(np.arange(40) % 4, rewards=(Certainty(), Loss()), thief=Linear(3), batch_size=8)
    state = attack.init(jax.random.key(0), _images(40))
    images, answers = attack.ask(state), np.float32(np.random.default_rng(5).dirichlet(np.ones(3), 8))
    first, again = (attack.tell(state, images, answers) for _ in range(2))
    chex.assert_trees_all_equal(first, again)
    np.testing.assert_array_equal(attack.ask(state), images)
    assert state.used.sum() == 0


_RUN = """
import jax, numpy as np
from pp_jax.attacks import AdaptiveKnockoff, collect
jax.config.update("jax_enable_x64", {wide})
pool = np.arange(300, dtype=np.float32).reshape(-1, 1, 1, 1) / 300
attack = AdaptiveKnockoff(np.arange(300) % 7, batch_size={batch_size})
seen = lambda x: np.round(300 * x.ravel()).astype(int)
api = lambda x: np.stack([seen(x) % 7 / 7, 1 - seen(x) % 7 / 7], axis=1)
print(seen(collect(jax.random.key({seed}), attack, pool, api, budget=100).images).tolist())
"""


@pytest.mark.slow
def test_the_same_key_asks_the_same_questions_in_every_process_with_or_without_float64():
    def fresh(**options):
        code = _RUN.format(**{"wide": False, "batch_size": 9, "seed": 0} | options)
        return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    assert fresh() == fresh(wide=True) != fresh(seed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": [0.5]}, r"whole numbers of shape \(N,\) or \(N, L\), N ≥ 1, not float64 of \(1,\)"),
        ({"classes": np.zeros((2, 2, 2), int)}, r"not int64 of \(2, 2, 2\)"),
        ({"classes": np.zeros(0, int)}, r"not int64 of \(0,\)"),
        ({"rewards": ()}, "rewards must hold at least one reward"),
        ({"rewards": (Certainty(), Loss())}, r"the reward Loss\(\) needs a thief"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
    ],
)
def test_a_bad_attack_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveKnockoff(**{"classes": [0, 1]} | arguments)


def test_a_bad_pool_bad_answers_and_a_bad_window_are_refused():
    attack = AdaptiveKnockoff([0, 1, 0], rewards=(Loss(),), thief=Linear(4), batch_size=2)
    with pytest.raises(ValueError, match="classes must be as many as images: 3 and 4"):
        attack.init(jax.random.key(0), _images(4))
    state = attack.init(jax.random.key(0), _images(3))
    images = attack.ask(state)
    with pytest.raises(ValueError, match="the thief knows 4 classes, the answers have 3"):
        attack.tell(state, images, np.full((2, 3), 1 / 3, np.float32))
    with pytest.raises(ValueError, match="answers must be finite: 1 of 2 are not"):
        attack.tell(state, images, np.array([[1, 0, 0, 0], [np.nan] * 4], np.float32))
    with pytest.raises(ValueError, match="window must be at least 1, not 0"):
        Diversity(0)
