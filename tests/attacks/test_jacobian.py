"""Jacobian-based augmentation: each step goes where it is defined to go, and what is asked is what is kept."""

import dataclasses
import functools
import hashlib
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import BlackBox, metrics, models
from pp_jax.attacks import (
    JacobianAugmentation,
    RandomTargets,
    SignedGradient,
    TargetedPGD,
    collect,
    jb_self,
    jb_topk,
    jbda,
    jbda_tr,
)
from pp_jax.attacks.augment import moved
from pp_jax.training import Recipe, fit
from support import Counted, Linear, blobs, linear_logits, linear_params

K, SIDE = 4, 6
QUICK = Recipe(epochs=1, batch_size=32, momentum=0.9)


class Thief(Linear):
    """`Linear`, asked for logits as well; all of as many classes are equal."""

    def __call__(self, params, image):
        return linear_logits(params, image)

    def __eq__(self, other):
        return isinstance(other, Thief) and self.classes == other.classes

    def __hash__(self):
        return hash((Thief, self.classes))


THIEF = Thief(K)
ATTACKS = {"jbda": jbda, "jb_self": jb_self, "jb_topk": jb_topk}


def _case(seed, count=5):
    """Weights, images (some pixels at the edges of [0, 1]) and answers."""
    params = linear_params(jax.random.key(seed), SIDE * SIDE, K, scale=0.3)
    rng = np.random.default_rng(seed)
    images = np.clip(rng.uniform(-0.3, 1.3, (count, SIDE, SIDE, 1)), 0, 1).astype(np.float32)
    return params, images, rng.dirichlet(np.ones(K), count).astype(np.float32)


def _probs(params, images):
    return metrics.predict(linear_logits, params, images)


def _move(move, params, images, answers, number=0, chunk_size=64):
    return moved(move, linear_logits, params, images, answers, number, chunk_size=chunk_size)


seeds = st.integers(0, 10_000)


@hypothesis.given(seeds, st.booleans(), st.integers(0, 20))
def test_a_signed_step_moves_the_loss_at_the_answered_class_as_defined(seed, ascend, number):
    """Up for JBDA, down for JB-self, the other way round after 5 rounds, then back; always within λ and [0, 1]."""
    params, images, answers = _case(seed)
    new = _move(SignedGradient(ascend=ascend), params, images, answers, number)
    label = answers.argmax(1)
    before, after = (np.take_along_axis(_probs(params, x), label[:, None], 1)[:, 0] for x in (images, new))
    up = ascend ^ (number // 5 % 2 == 1)
    # Far from saturation a linear model's loss is convex: a step up never lowers it; down, λ = .1 is a small step.
    assert ((after < before) if up else (after > before)).all()
    assert new.shape == images.shape
    assert new.dtype == np.float32
    assert new.min() >= 0
    assert new.max() <= 1
    assert np.abs(new - images).max() <= 0.1 + 1e-6


@pytest.mark.parametrize(("period", "signs"), [(5, "+++++-----+++++-"), (1, "+-+-+-+-"), (3, "+++---+++---")])
def test_the_sign_of_the_step_flips_with_the_period(period, signs):
    params, images, answers = _case(0, 1)
    up = _move(SignedGradient(period=period), params, images, answers, 0)
    down = _move(SignedGradient(period=period, ascend=False), params, images, answers, 0)
    for number, sign in enumerate(signs):
        for ascend in (True, False):
            new = _move(SignedGradient(period=period, ascend=ascend), params, images, answers, number)
            np.testing.assert_array_equal(new, up if (sign == "+") == ascend else down)


def test_the_signed_step_is_the_formula_by_hand():
    params, images, answers = _case(1)
    kernel = np.asarray(params["params"]["kernel"], np.float64)
    one_hot = np.eye(K)[answers.argmax(1)]
    gradient = ((_probs(params, images) - one_hot) @ kernel.T).reshape(images.shape)
    np.testing.assert_allclose(
        _move(SignedGradient(0.07), params, images, answers),
        np.clip(images + 0.07 * np.sign(gradient), 0, 1),
        atol=1e-6,
    )


@hypothesis.given(seeds, st.sampled_from([1, 2, 3]))
def test_top_k_raises_the_target_within_its_radius(seed, classes):
    """Image j of each k is likelier of the j-th likeliest class that was not answered."""
    params, images, answers = _case(seed)
    new = _move(TargetedPGD(classes), params, images, answers)
    assert len(new) == classes * len(images)
    before, after = _probs(params, images), _probs(params, new).reshape(len(images), classes, K)
    for i, (probs, answer) in enumerate(zip(before, answers, strict=True)):
        targets = [k for k in np.argsort(-probs) if k != answer.argmax()][:classes]
        for j, target in enumerate(targets):
            assert after[i, j, target] > probs[target]
    assert np.abs(new - images.repeat(classes, 0)).max() <= 0.08 + 1e-6
    assert new.min() >= 0
    assert new.max() <= 1


def test_the_radius_binds_where_the_steps_lead_further():
    params, images, answers = _case(2)
    new = _move(TargetedPGD(steps=20, step_size=0.02), params, images, answers)
    assert np.abs(new - images.repeat(3, 0)).max() == pytest.approx(0.1, abs=1e-6)


def test_random_targets_are_other_classes_each_drawn_alike_and_approached_as_top_k_approaches_its_own():
    params, images, answers = _case(4, 60)
    new = moved(RandomTargets(2), linear_logits, params, images, answers, 0, chunk_size=30, key=jax.random.key(1))
    again = moved(RandomTargets(2), linear_logits, params, images, answers, 0, chunk_size=8, key=jax.random.key(1))
    np.testing.assert_allclose(new, again, atol=1e-6)  # whatever the chunks
    # In a linear model towards class c: every target's image is one of the three that top-3 makes.
    every = moved(
        TargetedPGD(3, 8, 1.85 * 0.1 / 8), linear_logits, params, images, answers, 0, chunk_size=30
    ).reshape(60, 3, -1)  # fmt: skip
    found = []
    for image, other in zip(new.reshape(60, 2, -1), every, strict=True):
        gaps = np.abs(image[:, None] - other[None]).max(axis=2)
        assert (gaps.min(axis=1) < 1e-5).all()
        assert len(set(gaps.argmin(axis=1))) == 2  # without replacement
        found += gaps.argmin(axis=1).tolist()
    assert min(np.bincount(found, minlength=3)) > 25  # of 120: the likeliest is not preferred
    assert np.abs(new - images.repeat(2, 0)).max() == pytest.approx(0.1, abs=1e-6)


def test_jbda_tr_has_its_published_settings():
    attack = jbda_tr(THIEF)
    assert attack.seed_size == 1000
    assert (attack.move.classes, attack.move.steps, attack.move.radius) == (3, 8, 0.1)
    assert attack.move.step_size == pytest.approx(1.85 * 0.1 / 8)
    assert RandomTargets().step_size == attack.move.step_size
    with pytest.raises(ValueError, match="network is None: must be given, JacobianAugmentation"):
        jbda_tr(None).init(jax.random.key(0), blobs(2, 40)[0])


def test_jbda_tr_spends_its_budget_on_seeds_and_on_images_near_them():
    attack = jbda_tr(THIEF, seed_size=10, reservoir=8, recipe=QUICK, chunk_size=16)
    stolen = collect(jax.random.key(0), attack, blobs(2, 40)[0], _answers, budget=31)
    assert stolen.queries == 31
    gaps = np.abs(stolen.images[10:, None] - stolen.images[None, :10]).max((2, 3, 4)).min(axis=1)
    assert gaps.max() <= 0.1 + 1e-6
    assert gaps.min() > 0


@pytest.mark.parametrize("count", [1, 6, 7, 20])
@pytest.mark.parametrize("move", [SignedGradient(), TargetedPGD(2)])
def test_one_program_moves_any_number_of_images_in_any_round(move, count):
    params, images, answers = _case(3, 20)
    logits = Counted(linear_logits)
    moved(move, logits, params, images[:3], answers[:3], 0, chunk_size=7)
    traces = logits.traces
    other = dataclasses.replace(move, step_size=0.02)
    parts = moved(other, logits, params, images[:count], answers[:count], 6, chunk_size=7)
    assert logits.traces == traces > 0
    whole = moved(other, linear_logits, params, images[:count], answers[:count], 6, chunk_size=100)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def _recording(api):
    """An API that keeps what it is asked, and its record."""
    record = []

    def asked(images):
        record.append(np.array(images))
        return api(images)

    return asked, record


def _answers(images):
    """A victim: a fixed linear model."""
    return _probs(linear_params(jax.random.key(77), SIDE * SIDE, K, scale=0.3), np.asarray(images))


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("budget", [1, 7, 10, 11, 83])
@pytest.mark.parametrize("batch_size", [4, 500])
def test_exactly_the_budget_is_asked_and_kept_as_it_was_asked(name, budget, batch_size):
    attack = ATTACKS[name](THIEF, seed_size=10, reservoir=8, recipe=QUICK, batch_size=batch_size, chunk_size=16)
    api, record = _recording(_answers)
    pool = blobs(2, 40)[0]
    kept = pool.copy()
    stolen = collect(jax.random.key(0), attack, pool, api, budget=budget)
    assert stolen.queries == budget
    assert max(map(len, record)) <= batch_size
    np.testing.assert_array_equal(stolen.images, np.concatenate(record))
    np.testing.assert_array_equal(pool, kept)
    seeds = stolen.images[:10]
    assert len(np.unique(seeds, axis=0)) == len(seeds)
    assert all((pool == seed).all((1, 2, 3)).any() for seed in seeds)
    assert stolen.images.min() >= 0
    assert stolen.images.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "sizes"),
    [
        (jbda(THIEF, seed_size=10, reservoir=25, recipe=QUICK), [10, 10, 20, 40, 25, 25]),
        (jbda(THIEF, seed_size=10, reservoir=25, recipe=QUICK, reservoir_after=0), [10, 10, 20, 25, 25]),
        (jb_topk(THIEF, k=2, seed_size=10, reservoir=25, recipe=QUICK), [10, 20, 60, 180, 50, 50]),
    ],
)
def test_every_image_is_moved_before_the_reservoir_and_so_many_after(attack, sizes):
    state = attack.init(jax.random.key(0), blobs(2, 40)[0])
    for size in sizes:
        images = attack.ask(state)
        assert len(images) == size
        state = attack.tell(state, images, _answers(images))


def _source(images, sources):
    """Which of the sources each image was moved from: the only one within .1."""
    gaps = np.abs(images[:, None] - sources[None]).max((2, 3, 4))
    assert ((gaps <= 0.1 + 1e-6).sum(1) == 1).all()
    return gaps.argmin(1)


def test_the_reservoir_is_drawn_without_replacement():
    attack = jbda(THIEF, seed_size=40, reservoir=15, reservoir_after=0, recipe=QUICK)
    state = attack.init(jax.random.key(0), np.random.default_rng(0).uniform(size=(60, SIDE, SIDE, 1)))
    seeds = attack.ask(state)
    sources = _source(attack.ask(attack.tell(state, seeds, _answers(seeds))), seeds)
    assert len(set(sources)) == 15
    assert (np.diff(sources) < 0).any()  # in random order: a budget that cuts the round prefers none


def test_ask_and_tell_are_pure_and_a_short_answer_goes_on_where_it_stopped():
    attack = jbda(THIEF, seed_size=10, recipe=QUICK, batch_size=6)
    start = attack.init(jax.random.key(0), blobs(2, 40)[0])
    first = attack.ask(start)
    short = attack.tell(start, first, _answers(first)[:4])
    np.testing.assert_array_equal(attack.ask(start), first)
    rest = attack.ask(short)
    np.testing.assert_array_equal(rest[:2], first[4:])
    state = attack.tell(short, rest, _answers(rest))
    np.testing.assert_array_equal(np.concatenate(state.images), np.concatenate([first[:4], rest]))
    assert short.images[0].shape == (4, SIDE, SIDE, 1)


def test_a_budget_that_ends_with_a_round_trains_for_no_other(monkeypatch):
    trained = []
    monkeypatch.setattr(
        "pp_jax.attacks.jacobian.fit",
        lambda key, network, images, *rest, loss: trained.append(len(images)) or _case(0)[0],
    )
    attack = jbda(THIEF, seed_size=10, batch_size=4)
    for budget, expected in ((10, []), (11, [10]), (20, [10]), (21, [10, 20])):
        trained.clear()
        collect(jax.random.key(0), attack, blobs(2, 40)[0], _answers, budget=budget)
        assert trained == expected


def test_uint8_pools_are_asked_about_in_pixels():
    pool = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 1), np.uint8)
    images = collect(jax.random.key(0), jbda(THIEF, seed_size=20, recipe=QUICK), pool, _answers, budget=25).images
    assert images.dtype == np.float32
    np.testing.assert_array_equal(np.unique(images[:20], axis=0), np.unique(pool, axis=0).astype(np.float32) / 255)


def _noisy(seed, count):
    """Images of four classes that overlap, and their labels."""
    prototypes = np.random.default_rng(0).uniform(0.4, 0.6, (K, SIDE, SIDE, 1))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, count)
    images = prototypes[labels] + 0.15 * rng.normal(size=(count, SIDE, SIDE, 1))
    return np.clip(images, 0, 1).astype(np.float32), labels


@functools.cache
def _victim():
    """A linear victim, which has seen 800 images."""
    return fit(jax.random.key(0), THIEF, *_noisy(1, 800), Recipe(epochs=10, batch_size=32))


def _accuracy(attack, budget):
    """Test accuracy of a model trained on stolen answers, 300 steps whatever the budget."""
    stolen = collect(jax.random.key(1), attack, _noisy(2, 100)[0], BlackBox(THIEF, _victim()).api(), budget=budget)
    recipe = Recipe(epochs=6000 // budget, batch_size=20, momentum=0.9)
    params = fit(jax.random.key(2), THIEF, stolen.images, stolen.answers, recipe)
    images, labels = _noisy(3, 500)
    return metrics.accuracy(metrics.predict(THIEF, params, images), labels)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_stolen_model_gains_accuracy_with_budget(name):
    attack = ATTACKS[name](THIEF, seed_size=20, recipe=Recipe(epochs=20, batch_size=20, momentum=0.9))
    assert _accuracy(attack, 100) > _accuracy(attack, 20) + 0.05


def _digest(seed):
    """What an attack asks, in short."""
    attack = jbda(THIEF, seed_size=10, recipe=QUICK)
    stolen = collect(jax.random.key(seed), attack, blobs(2, 40)[0], _answers, budget=45)
    return hashlib.sha256(stolen.images.tobytes()).hexdigest()


@pytest.mark.slow
def test_the_same_key_gives_the_same_queries_in_another_process(request):
    tests = str(request.config.rootpath / "tests")
    paths = [tests + "/helpers", tests + "/attacks"]
    script = f"import sys; sys.path[:0] = {paths}; import test_jacobian; print(test_jacobian._digest(0))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == _digest(0) != _digest(1)


@pytest.mark.slow
def test_the_networks_of_the_library_serve_as_substitutes():
    attack = jb_topk(models.lenet(5), seed_size=4, recipe=Recipe(epochs=1, batch_size=4), chunk_size=12)
    pool = np.random.default_rng(0).uniform(size=(6, 16, 16, 1)).astype(np.float32)
    stolen = collect(jax.random.key(0), attack, pool, lambda x: np.full((len(x), 5), 0.2), budget=16)
    assert stolen.queries == 16
    _, counts = np.unique(_source(stolen.images[4:], stolen.images[:4]), return_counts=True)
    np.testing.assert_array_equal(counts, [3, 3, 3, 3])


def test_the_published_settings_are_the_defaults():
    for make, move in (
        (jbda, SignedGradient(0.1, 5)),
        (jb_self, SignedGradient(0.1, 5, False)),
        (jb_topk, TargetedPGD()),
    ):
        attack = make(THIEF)
        assert attack == JacobianAugmentation(THIEF, move)
        assert (attack.seed_size, attack.reservoir, attack.reservoir_after) == (100, 400, 3)
        assert attack.recipe == Recipe(epochs=20, batch_size=64, learning_rate=0.1, momentum=0.9)
        assert attack.capacity(1) == float("inf")
    move = TargetedPGD()
    assert (move.classes, move.steps, move.step_size, move.radius) == (3, 8, 0.01, 0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jbda(THIEF, step_size=0.0), "step_size must be above 0 and at most 1, not 0"),
        (lambda: jbda(THIEF, period=0), "period must be a whole number of at least 1, not 0"),
        (lambda: jb_topk(THIEF, k=0), "classes must be a whole number of at least 1, not 0"),
        (lambda: TargetedPGD(steps=0), "steps must be"),
        (lambda: TargetedPGD(radius=2.0), "radius must be above 0 and at most 1, not 2"),
        (lambda: jbda(THIEF, seed_size=0), "seed_size must be a whole number of at least 1, not 0"),
        (lambda: jbda(THIEF, reservoir=0), "reservoir must be"),
        (lambda: jbda(THIEF, reservoir_after=-1), "reservoir_after must be a whole number of at least 0, not -1"),
        (lambda: jbda(THIEF, batch_size=0), "batch_size must be"),
        (lambda: jbda(THIEF, chunk_size=0), "chunk_size must be"),
        (lambda: _move(TargetedPGD(K), *_case(0)), r"classes must be at most K − 1 = 3, the other classes, not 4"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (np.zeros((99, 2, 2, 1), np.float32), "at least seed_size=100 images, not 99"),
        (np.zeros((100, 4), np.float32), r"pool must have shape \(B, H, W, C\) with B ≥ 1, not \(100, 4\)"),
        (np.zeros((100, 2, 2, 1), np.int32), "uint8 or floating point in .0, 1., not int32"),
        (np.full((100, 2, 2, 1), 2, np.float32), "pool must be in .0, 1.: 100 of 100 are not"),
        (np.full((100, 2, 2, 1), np.nan, np.float32), "pool must be in .0, 1.: 100 of 100 are not"),
    ],
)
def test_a_bad_pool_is_refused_before_anything_is_asked(pool, message):
    with pytest.raises(ValueError, match=message):
        collect(jax.random.key(0), jbda(THIEF), pool, lambda images: pytest.fail("asked"), budget=5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float64])
def test_pools_of_other_precisions_are_asked_about_in_float32(dtype):
    attack = jbda(THIEF, seed_size=5, recipe=QUICK)
    pool = np.asarray(blobs(2, 10)[0]).astype(dtype)
    assert collect(jax.random.key(0), attack, pool, _answers, budget=8).images.dtype == np.float32
