"""The learned poison: its answers' guarantees, the derivative through a student's steps, and that training harms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import training
from pp_jax.types import Query
from support import Linear, blobs, broken_promises, budgets, hard_posteriors, quick

KEY = jax.random.key(0)
CLASSES = 4
ALL = ("soft", "sharpened", "recovered")
RECIPE = training.Recipe(1, learning_rate=0.5)


def tiny(scripts, **changes):
    """A plan of seconds."""
    usual = {"steps": 60, "unrolled": 2, "plain": 1, "students": 2, "life": 30, "judged": 64, "learning_rate": 1e-2}
    return dataclasses.replace(scripts("owners.unrolling").PLAN, **(usual | changes))


def answers(scripts, probs, epsilon, *, scale=1.0, noise=8):
    """Of a poison network at random, its weights magnified, one budget and one key a row."""
    candidates = scripts("owners.candidates")
    network = candidates.PoisonNetwork(noise)
    params = jax.tree.map(lambda leaf: scale * leaf, network.fresh(KEY, probs.shape[1]))

    @jax.jit
    def one(y, e, k):
        return candidates.LearnedPoison(network, params, e)(y, Query(jnp.zeros((1, 1, 1)), k))

    return np.asarray(jax.vmap(one)(probs, epsilon, jax.random.split(KEY, len(probs))))


def seen(scripts, plan, *, seed=0):
    """Noisy prototypes: queries with posteriors that are nearly sure, and images to judge on."""
    images, labels = blobs(seed, plan.unrolled * plan.batch_size)
    own, classes = blobs(seed + 1, plan.judged)
    probs = 0.1 / CLASSES + 0.9 * np.eye(CLASSES)[labels]
    shape = (plan.unrolled, plan.batch_size)
    queries = images.reshape(*shape, *images.shape[1:])
    return scripts("owners.unrolling").Seen(queries, probs.reshape(*shape, CLASSES), probs[:40], own, classes, KEY)


def students(network, count):
    """Linear students before their first step, and the state of their optimiser; a leading axis."""

    @jax.jit
    def begin(key):
        weights = network.init(key, (6, 6, 1))
        return weights, RECIPE.optimizer(1).init(weights["params"])

    return jax.vmap(begin)(jax.random.split(KEY, count))


@pytest.mark.parametrize(("classes", "scale"), quick([(2, 1.0), (10, 100.0)], 1))
def test_answers_are_posteriors_within_the_budget(scripts, classes, scale):
    rng = np.random.default_rng(classes)
    probs, epsilon = hard_posteriors(rng, 2000, classes), budgets(rng, 2000, 2.0)
    found = answers(scripts, probs, epsilon, scale=scale)
    counts = broken_promises(probs, found, epsilon, distance="L1", keep_argmax=False)
    assert counts == dict.fromkeys(counts, 0)


@pytest.mark.slow
def test_the_noise_moves_answers_and_without_it_none_move(scripts):
    probs, epsilon = np.tile(np.float32([0.7, 0.1, 0.1, 0.1]), (50, 1)), np.full(50, 0.5, np.float32)
    assert np.ptp(answers(scripts, probs, epsilon), axis=0).max() > 1e-2
    assert np.ptp(answers(scripts, probs, epsilon, noise=0), axis=0).max() < 1e-6


@pytest.mark.parametrize("loss", quick(["error", "cross_entropy"], 0))
def test_the_derivative_through_the_steps_is_that_of_finite_differences(scripts, loss):
    unrolling, plan, network = scripts("owners.unrolling"), tiny(scripts, loss=loss, thieves=ALL), Linear(CLASSES)

    def wide(tree):
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)

    params = plan.network().fresh(jax.random.key(1), CLASSES)
    shown = seen(scripts, plan)
    given = [wide(tree) for tree in (params, students(network, len(plan.thieves)), shown[:4])]
    with jax.enable_x64(True):
        params, begun, parts = given
        shown = unrolling.Seen(*parts, *shown[4:])

        @jax.jit
        def objective(params):
            return unrolling.harm(plan, network, params, begun, shown, RECIPE)[0]

        slope = jax.jit(jax.grad(objective))(params)
        rng = np.random.default_rng(0)
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
        ahead, behind = (jax.tree.map(lambda p, d, s=s: p + s * d, params, direction) for s in (1e-6, -1e-6))
        found = (float(objective(ahead)) - float(objective(behind))) / 2e-6
        pairs = zip(jax.tree.leaves(slope), jax.tree.leaves(direction), strict=True)
        expected = sum(float(np.vdot(np.asarray(a), b)) for a, b in pairs)
    assert abs(expected) > 1e-4
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_least_harmed_thief_counts_most(scripts):
    plan = tiny(scripts, thieves=("soft", "sharpened"), softness=1e-4)
    unrolling, network = scripts("owners.unrolling"), Linear(CLASSES)
    params, shown = plan.network().fresh(KEY, CLASSES), seen(scripts, plan)
    harm = jax.jit(lambda given: unrolling.harm(plan, network, params, given, shown, RECIPE))
    least, (losses, _) = harm(students(network, 2))
    assert float(least) == pytest.approx(float(losses.min()), abs=1e-3)


def test_the_error_is_a_rate_where_logits_are_large(scripts):
    logits = 1e3 * jnp.eye(4)[jnp.array([0, 1, 2, 3])]
    assert float(scripts("owners.unrolling").soft_error(logits, jnp.array([0, 1, 2, 0]))) == pytest.approx(0.25)


def test_what_two_posteriors_are_answered_with_stands_for_their_mean(scripts):
    unrolling, plan = scripts("owners.unrolling"), tiny(scripts)
    clean = np.float32([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]])
    answered = np.float32([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]])
    found = unrolling.recovered(plan, answered[None], (clean, answered))
    np.testing.assert_allclose(found[0], [[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]], rtol=1e-5)


@pytest.mark.slow
def test_training_harms_a_thief_more_than_chance_does(scripts):
    unrolling, plan, network = scripts("owners.unrolling"), tiny(scripts, thieves=("soft",)), Linear(CLASSES)
    own, (images, labels) = blobs(1, 300), blobs(2, 300)
    probs = (0.1 / CLASSES + 0.9 * np.eye(CLASSES)[labels]).astype(np.float32)
    params = scripts("owners.poisoning").fit(plan, 0, network, own, (images, probs), RECIPE)
    steal = training.Recipe(5, batch_size=32, learning_rate=0.5)

    def thief(params):
        taught = np.asarray(unrolling.poisoned(plan, params, probs, KEY))
        weights = training.fit(KEY, network, images, taught, steal)
        return np.mean(np.argmax(network.train(weights, own[0])[0], axis=1) == own[1])

    assert thief(params) < thief(plan.network().fresh(jax.random.key(9), CLASSES)) - 0.2


def test_the_plan_is_part_of_what_determines_network_and_cell(scripts):
    learned = scripts("owners.defenses").Defense("learned")
    settings = learned.needs().settings()
    assert settings["outliers"] == "omniglot_28"
    assert settings["thieves"] == ["sharpened", "recovered"]
    assert scripts("steal").Config(defense=learned).settings()["networks"] == settings


def test_a_thief_knows_the_poison_network(scripts):
    possible, defense = scripts("thieves.recovering").possible, scripts("owners.defenses").Defense("learned")
    assert [possible(labels, defense) for labels in ("partial_bayes", "ddae_plus", "inverted", "relabelled")] == [
        True,
        True,
        False,
        False,
    ]
