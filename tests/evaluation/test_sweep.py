"""Sweeps: thefts at once are the thefts one after another, by whichever way the machine is told or chooses."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import children
from pp_jax import MAD, BlackBox, RandomNoise, Rounding, attacks, augmentation, chain, models, sweep, training
from support import Linear, blobs, linear_logits, linear_params, quick

POOL, _ = blobs(0, 60)
RECIPE = training.Recipe(epochs=3, batch_size=16, decay_every=2)
CLASSES, PIXELS, BUDGET = 4, 36, 40
ROUNDING = 1e-5


@functools.cache
def thefts():
    """Four defenses and two seeds, each with a surrogate of its own."""
    victim = linear_params(jax.random.key(7), PIXELS, CLASSES)
    cells = []
    for seed in range(2):
        attack_key, thief_key, surrogate_key, secret = jax.random.split(jax.random.key(seed), 4)
        mad = MAD(linear_logits, linear_params(surrogate_key, PIXELS, CLASSES), 0.5)
        for defense in (chain(), mad, RandomNoise(5.0), chain(mad, Rounding(1))):
            box = BlackBox(linear_logits, victim, defense, secret)
            cells.append(sweep.Theft(box, attack_key, thief_key))
    return cells


def run(**options):
    return list(sweep.run(thefts(), Linear(CLASSES), POOL, RECIPE, budget=BUDGET, **options))


def each_needs():
    """Bytes of one theft."""
    return sweep._bytes_each(thefts()[0], Linear(CLASSES), POOL, RECIPE, BUDGET)


def assert_same(ones, others, tolerance):
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_allclose(one.answers, other.answers, atol=tolerance, rtol=0)
        chex.assert_trees_all_close(one.params, other.params, atol=tolerance, rtol=0)


@functools.cache
def alone():
    """Every theft by `collect` and `fit` alone."""
    found = []
    for theft in thefts():
        taken = attacks.collect(theft.attack_key, attacks.Knockoff(), POOL, theft.box.api(), budget=BUDGET)
        found.append(training.fit(theft.thief_key, Linear(CLASSES), taken.images, taken.answers, RECIPE))
    return found


@pytest.mark.slow
def test_one_after_another_is_what_collect_and_fit_do_bit_for_bit():
    for stolen, params in zip(run(way="loop"), alone(), strict=True):
        chex.assert_trees_all_equal(stolen.params, params)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", quick([{"way": "vmap"}, {"way": "chunk", "memory": 3}, {"way": "chunk", "memory": 1}], 1)
)
def test_thefts_at_once_are_those_one_after_another_up_to_rounding(options):
    if "memory" in options:
        options = options | {"memory": options["memory"] * each_needs() + 1}
    assert_same(run(**options), run(way="loop"), ROUNDING)


@pytest.mark.slow
def test_the_labels_alone_can_be_stolen_at_once():
    assert_same(run(way="vmap", top1=True), run(way="loop", top1=True), ROUNDING)


def test_progress_and_plan_are_told():
    told, shares = [], []
    run(way="chunk", memory=3 * each_needs() + 1, tell=told.append, progress=shares.append)
    assert told[0].startswith("3 thefts at a time: each takes ")
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) == 3 * RECIPE.epochs


def test_thefts_start_from_given_parameters():
    start = linear_params(jax.random.key(3), PIXELS, CLASSES)
    warm = [theft._replace(params=start) for theft in thefts()]
    ways = [list(sweep.run(warm, Linear(CLASSES), POOL, RECIPE, budget=BUDGET, way=way)) for way in ("vmap", "loop")]
    assert_same(*ways, ROUNDING)
    with pytest.raises(ValueError, match="all thefts must have params, or none"):
        next(sweep.run([warm[0], thefts()[0]], Linear(CLASSES), POOL, RECIPE, budget=BUDGET))


@pytest.mark.parametrize(
    ("count", "options", "way", "at_once"),
    [
        (64, {}, "loop", 1),
        (64, {"way": "vmap"}, "vmap", 64),
        (64, {"way": "loop"}, "loop", 1),
        (1, {"way": "chunk"}, "loop", 1),
        (64, {"way": "chunk", "memory": 6400}, "vmap", 64),
        (64, {"way": "chunk", "memory": 6399}, "chunk", 32),
        (64, {"way": "chunk", "memory": 100}, "chunk", 1),
        (10, {"way": "chunk", "memory": 700}, "chunk", 5),
        (64, {"devices": 8, "memory": 200}, "chunk", 16),
        (10, {"devices": 8, "memory": 200}, "vmap", 16),
    ],
)
def test_the_plan_follows_hardware_memory_and_wish(count, options, way, at_once):
    plan = sweep.plan(count, lambda: 100, **options)
    assert (plan.way, plan.at_once) == (way, at_once), plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 61}, "budget is 61: must be at least 1 and at most 60, the images of the pool"),
        ({"budget": 0}, "budget is 0: must be at least 1"),
        ({"way": "quickly"}, "way is 'quickly': must be one of vmap, chunk, loop"),
        ({"way": "chunk", "memory": 10}, "memory is 10 bytes: one theft takes "),
    ],
)
def test_bad_input_is_one_clear_error(change, message):
    with pytest.raises(ValueError, match=message):
        next(sweep.run(thefts(), Linear(CLASSES), POOL, RECIPE, **({"budget": BUDGET} | change)))


def _sets(count, *, side=16, size=24):
    """Rows of one pool, with soft labels, for so many networks."""
    rng = np.random.default_rng(1)
    pool = rng.integers(0, 256, (40, side, side, 1)).astype(np.uint8)
    rows = np.stack([rng.permutation(40)[:size] for _ in range(count)])
    return training.Sets(pool, rows, rng.dirichlet(np.ones(3), (count, size)).astype(np.float32))


@pytest.mark.parametrize(
    ("network", "recipe"),
    [
        (models.lenet(3), training.Recipe(2, batch_size=8, weight_decay=1e-3)),
        pytest.param(
            models.lenet(3),
            training.Recipe(1, batch_size=8, augment=augmentation.random_flip),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            models.mlp(3),
            training.Recipe(1, batch_size=8, privacy=training.Privacy(1.0, 0.5)),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_networks_at_once_are_those_that_fit_alone(network, recipe):
    sets, keys = _sets(2), jax.random.split(jax.random.key(0), 2)
    many = training.fit_many(keys, network, sets, recipe)
    for i in range(2):
        one = training.fit(keys[i], network, sets.pool[sets.rows[i]], sets.targets[i], recipe)
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, i=i: leaf[i], many), one, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(models.resnet18(3, small_images=True), marks=pytest.mark.exhaustive),
        # At full speed: in float64 and without optimisation, XLA's program for one VGG returns NaN.
        pytest.param(models.vgg16_bn(3, image_size=32), marks=pytest.mark.exhaustive),
    ],
)
def test_networks_with_batch_statistics_are_trained_at_once(network):
    """In float64: normalising a batch of eight magnifies the rounding of float32 beyond any sensible tolerance."""
    recipe = training.Recipe(1, 8, 0.01)
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 2)
        sets = jax.tree.map(lambda a: a if a.dtype.kind == "i" else np.float64(a), _sets(2, side=32, size=16))
        sets = sets._replace(pool=sets.pool / 255)
        fresh = [jax.tree.map(jnp.float64, network.init(key, (32, 32, 1))) for key in keys]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *fresh)
        many = training.fit_many(keys, network, sets, recipe, params=stacked)
        for i, params in enumerate(fresh):
            one = training.fit(keys[i], network, sets.pool[sets.rows[i]], sets.targets[i], recipe, params=params)
            own = jax.tree.map(lambda leaf, i=i: leaf[i], many)
            chex.assert_trees_all_close(own, one, atol=1e-9, rtol=1e-9)
            moved = jax.tree.map(lambda new, old: jnp.abs(new - old).max(), one["params"], params["params"])
            assert max(jax.tree.leaves(moved)) > 1e-3


def test_one_program_serves_all_parts_and_epochs():
    class Traced(Linear):
        traces = 0

        def train(self, params, images):
            type(self).traces += 1
            return super().train(params, images)

    network = Traced(CLASSES)
    memory = 3 * each_needs() + 1  # 8 thefts, 3 at a time: the last part is filled up
    for _ in range(2):
        list(sweep.run(thefts(), network, POOL, RECIPE, budget=BUDGET, way="chunk", memory=memory))
    assert Traced.traces <= 3  # one to ask what a theft takes, one how many outputs there are, one to train


def test_sets_that_do_not_fit_are_refused():
    sets, keys = _sets(2), jax.random.split(jax.random.key(0), 2)
    for wrong in (sets._replace(rows=sets.rows[:, :5]), sets._replace(rows=sets.rows[0]), _sets(3)):
        with pytest.raises(ValueError, match="keys, rows and targets must be"):
            training.fit_many(keys, models.lenet(3), wrong, RECIPE)


def test_the_form_for_many_networks_is_the_same_function():
    network = models.lenet(3)
    params, image = network.init(jax.random.key(0), (16, 16, 1)), jnp.asarray(_sets(1).pool[0])
    np.testing.assert_allclose(network.vmapped(params, image), network(params, image), atol=1e-5)


@pytest.mark.slow
def test_thefts_are_spread_over_devices():
    (found,) = children.results(children.start("thefts.py", devices=4), timeout=200)
    assert found["apart"] <= ROUNDING
    assert found["devices"] == 4
    assert found["refused"] == "3 networks cannot be spread evenly over 4 devices"
