"""Every public entry refuses every value that cannot be right, in one line, before it computes with it."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from pp_jax import (
    BlackBox,
    Images,
    TopK,
    Victim,
    attacks,
    calibration,
    metrics,
    models,
    novelty,
    perturb,
    recovery,
    stream,
    training,
)
from pp_jax._checks import check_posteriors
from pp_jax.defenses import RandomNoise, ReverseSigmoid, keyed_swap
from pp_jax.recovery import Knowledge
from pp_jax.types import TransferSet

N, K = 12, 3
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
IMAGES = RNG.random((N, 8, 8, 1)).astype(np.float32)
LABELS = np.arange(N) % K
PROBS = RNG.dirichlet(np.ones(K), N).astype(np.float32)
NETWORK = models.mlp(K, hidden=(4,))
PARAMS = NETWORK.init(KEY, (8, 8, 1))
RECIPE = training.Recipe(1, batch_size=4)
BOX = BlackBox(NETWORK, PARAMS, TopK(2))
KNOWLEDGE = Knowledge(NETWORK, RECIPE)
ROWS = np.arange(N).reshape(2, N // 2)


def _api(images):
    return np.full((len(images), K), 1 / K, np.float32)


def _transfer(images=IMAGES, answers=PROBS):
    return TransferSet(images, answers)


def _recovered(one, images=IMAGES, answers=PROBS):
    return one(KEY, _transfer(images, answers), knowledge=KNOWLEDGE)


def refused(call, *args):
    """The error of a call that must be refused in one line, which says what is needed."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011: the text is looked at below
        call(*args)
    text = str(caught.value)
    assert "\n" not in text
    assert "must" in text
    return text


IMAGE_ENTRIES = {
    "fit": lambda x: training.fit(KEY, NETWORK, x, LABELS[: len(x)], RECIPE),
    "fit, unlabelled": lambda x: training.fit(
        KEY, NETWORK, IMAGES, LABELS, RECIPE, loss=training.OutlierExposure(), unlabelled=x
    ),
    "fit_many": lambda x: training.fit_many(
        jax.random.split(KEY, 2), NETWORK, training.Sets(x, ROWS, LABELS[ROWS]), RECIPE
    ),
    "Best": lambda x: training.Best(NETWORK, x, LABELS[: len(x)]),
    "predict": lambda x: metrics.predict(NETWORK, PARAMS, x),
    "angular_deviation": lambda x: metrics.angular_deviation(PROBS, PROBS, x, logits_fn=NETWORK, params=PARAMS),
    "perturb": lambda x: perturb(TopK(2), PROBS[: len(x)], x),
    "BlackBox": lambda x: BOX(x),
    "stream.perturb": lambda x: list(stream.perturb(TopK(2), (PROBS[: len(x)], np.asarray(x)), batch_size=N)),
    "stream.ask": lambda x: list(stream.ask(BOX, [x], batch_size=N)),
    "collect": lambda x: attacks.collect(KEY, attacks.Knockoff(), x, _api, budget=4),
    "jbda": lambda x: attacks.jbda(NETWORK, seed_size=2).init(KEY, x),
    "online": lambda x: attacks.online(KEY, NETWORK, x, BOX, optimizer=RECIPE.optimizer(1), sees="fixed", batch_size=4),
    "novelty.fit": lambda x: novelty.fit(NETWORK, PARAMS, x, LABELS[: len(x)]),
    "calibrate": lambda x: calibration.calibrate(
        lambda s: ReverseSigmoid(s), PROBS[: len(x)], x, target=0.1, low=0.0, high=1.0
    ),
    "Images": lambda x: Images(x),
    "Victim": lambda x: Victim(NETWORK, PARAMS, x, LABELS[: len(x)]),
    "HardLabel": lambda x: _recovered(recovery.HardLabel(), images=x),
    "infer_readings": lambda x: recovery.infer_readings(x, np.stack([PROBS, PROBS], 1)),
    "fit_between": lambda x: recovery.fit_between(KEY, NETWORK, x, np.stack([PROBS, PROBS], 1), np.zeros(N), RECIPE),
    "pairs_from_queries": lambda x: recovery.pairs_from_queries(KEY, _api, x),
    "partial_bayes": lambda x: recovery.partial_bayes(KEY, PROBS, TopK(2), images=x, samples=N),
    "ddae_plus": lambda x: recovery.ddae_plus(KEY, PROBS, TopK(2), images=x, samples=4),
    "shadow_posteriors": lambda x: recovery.shadow_posteriors(KEY, NETWORK, IMAGES, LABELS, RECIPE, queries=x, count=1),
}
BAD_IMAGES = {
    "up to 255": 255 * IMAGES,
    "normalised": (IMAGES - 0.5) / 0.3,
    "NaN": np.where(np.arange(N)[:, None, None, None] == 5, np.nan, IMAGES),
    "infinite": np.where(np.arange(N)[:, None, None, None] == 5, np.inf, IMAGES),
    "int64": (255 * IMAGES).astype(np.int64),
    "no channels": IMAGES[..., 0],
    "none": IMAGES[:0],
    "text": IMAGES.astype(str),
    "objects": np.array([{}] * N),
    "half precision up to 255": (255 * IMAGES).astype(ml_dtypes.bfloat16),
}


@pytest.mark.parametrize("bad", BAD_IMAGES)
@pytest.mark.parametrize("entry", IMAGE_ENTRIES)
def test_images_that_are_none_are_refused_in_one_line(entry, bad):
    if entry == "Best" and bad == "no channels":
        return  # What is no image may be what a network of another kind takes: it is asked at the end of the epoch.
    text = refused(IMAGE_ENTRIES[entry], BAD_IMAGES[bad])
    if bad in ("up to 255", "normalised", "NaN", "infinite"):
        assert f"{1 if bad in ('NaN', 'infinite') else N} of {N}" in text


LABEL_ENTRIES = {
    "fit": lambda y: training.fit(KEY, NETWORK, IMAGES, y, RECIPE),
    "fit_many": lambda y: training.fit_many(
        jax.random.split(KEY, 2), NETWORK, training.Sets(IMAGES, ROWS, np.asarray(y).reshape(2, -1)), RECIPE
    ),
    "accuracy": lambda y: metrics.accuracy(PROBS, y),
    "accuracy_loss": lambda y: calibration.accuracy_loss(y)(PROBS, PROBS),
    "novelty.fit": lambda y: novelty.fit(NETWORK, PARAMS, IMAGES, y),
    "soft_cross_entropy": lambda y: training.soft_cross_entropy(jnp.asarray(PROBS), y),
}
BAD_LABELS = {
    "from 1": (LABELS + 1, "from 1 to 3: must be from 0 to 2, as labels start at 0; write"),
    "negative": (np.where(LABELS == 1, -1, LABELS), "from -1 to 2: must be from 0 to "),
    "of more classes": (LABELS + 4, "from 4 to 6: must be from 0 to 2"),
    "not whole": (LABELS + 0.5, "whole numbers"),
    "NaN": (np.where(LABELS == 1, np.nan, LABELS), "whole numbers"),
    "text": (np.array(["a", "b", "c"])[LABELS], "text"),
    "bytes": (np.array([b"a", b"b", b"c"])[LABELS], "text"),
    "a list of text": (["cat"] * N, "text"),
    "one": (LABELS[:1], ""),
    "one fewer": (LABELS[1:], ""),
}


@pytest.mark.parametrize("bad", BAD_LABELS)
@pytest.mark.parametrize("entry", LABEL_ENTRIES)
def test_labels_that_are_no_classes_are_refused_in_one_line(entry, bad):
    labels, message = BAD_LABELS[bad]
    if entry == "fit_many" and bad in ("one", "one fewer"):
        labels = np.repeat(labels[:1], 4)
    assert message in refused(LABEL_ENTRIES[entry], labels)


HOT = np.eye(K, dtype=np.float32)[LABELS]
TARGET_ENTRIES = {
    "fit": lambda t: training.fit(KEY, NETWORK, IMAGES, t, RECIPE),
    "fit_resumably": lambda t: training.fit_resumably("never", KEY, NETWORK, IMAGES, t, RECIPE, identity={}),
    "fit_many": lambda t: training.fit_many(
        jax.random.split(KEY, 2), NETWORK, training.Sets(IMAGES, ROWS, np.asarray(t)[ROWS]), RECIPE
    ),
    "MixMatch": lambda t: training.fit(KEY, NETWORK, IMAGES, t, RECIPE, loss=training.MixMatch(), unlabelled=IMAGES),
}
BAD_TARGETS = {
    "logits": (np.log(PROBS) + 1, "jax.nn.softmax"),
    "percent": (100 * HOT, "all 100"),
    "percent of whole numbers": ((100 * HOT).astype(int), "all 100"),
    "twice": (2 * PROBS, "all 2"),
    "half": (PROBS / 2, "all 0.5"),
    "zeros": (0 * PROBS, "all 0"),
    "NaN": (np.where(LABELS[:, None] == 1, np.nan, PROBS), "finite: 4 of 12 rows"),
    "negative": (PROBS * [1, 1, -1], "negative: 12 of 12 rows"),
    "of another K": (np.eye(K + 1)[LABELS], "as the network has 3 classes"),
    "a column": (LABELS[:, None] * 1.0, "astype(int) for labels"),
    "twice in half precision": ((2 * PROBS).astype(ml_dtypes.bfloat16), "sum to one"),
}


@pytest.mark.parametrize("bad", BAD_TARGETS)
@pytest.mark.parametrize("entry", TARGET_ENTRIES)
def test_soft_labels_that_are_no_posteriors_are_refused_in_one_line(entry, bad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    targets, message = BAD_TARGETS[bad]
    if not (entry == "fit_many" and bad == "twice in half precision"):
        text = refused(TARGET_ENTRIES[entry], targets)
        assert message in text
    assert not list(tmp_path.iterdir())


POSTERIOR_ENTRIES = {
    "perturb": lambda p: perturb(TopK(2), p, IMAGES),
    "stream.perturb": lambda p: list(stream.perturb(TopK(2), [(p, IMAGES)], batch_size=N)),
    "calibrate": lambda p: calibration.calibrate(lambda s: ReverseSigmoid(s), p, IMAGES, target=0.1, low=0.0, high=1.0),
    "entropy": metrics.entropy,
    "distances": lambda p: metrics.distances(p, PROBS),
    "top1": recovery.top1,
    "invert_mad": lambda p: recovery.invert_mad(p, epsilon=0.5),
    "partial_bayes": lambda p: recovery.partial_bayes(KEY, p, TopK(2), samples=N),
    "ddae": lambda p: recovery.ddae(KEY, p, TopK(2), PROBS),
    "ddae_plus": lambda p: recovery.ddae_plus(KEY, p, TopK(2), samples=4),
}
BAD_POSTERIORS = {
    "zeros": 0 * PROBS,
    "twice": 2 * PROBS,
    "logits": np.log(PROBS),
    "NaN": np.where(LABELS[:, None] == 1, np.float32(np.nan), PROBS),
    "twice, bfloat16": (2 * PROBS).astype(ml_dtypes.bfloat16),
    "labels": LABELS,
    "a column": LABELS[:, None],
    "text": PROBS.astype(str),
}


@pytest.mark.parametrize("bad", BAD_POSTERIORS)
@pytest.mark.parametrize("entry", POSTERIOR_ENTRIES)
def test_posteriors_off_the_simplex_are_refused_in_one_line(entry, bad):
    refused(POSTERIOR_ENTRIES[entry], BAD_POSTERIORS[bad])


KEY_ENTRIES = {
    "init": lambda key: NETWORK.init(key, (8, 8, 1)),
    "fit": lambda key: training.fit(key, NETWORK, IMAGES, LABELS, RECIPE),
    "fit_resumably": lambda key: training.fit_resumably("never", key, NETWORK, IMAGES, LABELS, RECIPE, identity={}),
    "start": lambda key: training.start(key, NETWORK, (8, 8, 1), RECIPE.optimizer(1)),
    "perturb": lambda key: perturb(RandomNoise(1.0), PROBS, IMAGES, key=key),
    "BlackBox": lambda key: BlackBox(NETWORK, PARAMS, RandomNoise(1.0), key=key)(IMAGES),
    "stream.perturb": lambda key: stream.perturb(RandomNoise(1.0), (PROBS, IMAGES), key=key),
    "collect": lambda key: attacks.collect(key, attacks.Knockoff(), IMAGES, _api, budget=4),
    "online": lambda key: attacks.online(key, NETWORK, IMAGES, BOX, optimizer=RECIPE.optimizer(1), sees="fixed"),
    "calibrate": lambda key: calibration.calibrate(
        lambda s: RandomNoise(s), PROBS, IMAGES, target=0.1, low=0.0, high=1.0, key=key
    ),
    "ddae": lambda key: recovery.ddae(key, PROBS, TopK(2), PROBS),
    "partial_bayes": lambda key: recovery.partial_bayes(key, PROBS, TopK(2), samples=N),
    "shadow_posteriors": lambda key: recovery.shadow_posteriors(key, NETWORK, IMAGES, LABELS, RECIPE, queries=IMAGES),
    "smoothing": lambda key: recovery.smoothing(key, _api),
    "SelfTraining": lambda key: recovery.SelfTraining()(key, _transfer(), knowledge=KNOWLEDGE),
    "random_partners": lambda key: keyed_swap.random_partners(key, 4),
}


@pytest.mark.parametrize("key", [0, np.int64(3), 1.5, "0", np.zeros(3)], ids=repr)
@pytest.mark.parametrize("entry", KEY_ENTRIES)
def test_a_seed_in_place_of_a_key_is_refused_in_one_line(entry, key):
    assert "write key=jax.random.key(0)" in refused(KEY_ENTRIES[entry], key)


def test_seeds_in_place_of_keys_are_refused_in_one_line():
    sets = training.Sets(IMAGES, ROWS, LABELS[ROWS])
    text = refused(training.fit_many, [0, 1], NETWORK, sets, RECIPE)
    assert text.endswith("must be 2 random keys; write keys=jax.random.split(jax.random.key(0), 2)")


@pytest.mark.parametrize("key", [jax.random.PRNGKey(0), jax.random.key(0, impl="rbg")], ids=["raw", "rbg"])  # noqa: TID251
def test_keys_of_every_kind_work(key):
    assert attacks.collect(key, attacks.Knockoff(), IMAGES, _api, budget=4).queries == 4


def test_what_can_mean_one_thing_alone_is_taken():
    accuracy = metrics.accuracy(PROBS, LABELS)
    for labels in (LABELS[:, None], LABELS.tolist(), LABELS.astype(float), jnp.asarray(LABELS)[:, None]):
        assert metrics.accuracy(PROBS, labels) == accuracy
    assert metrics.accuracy(PROBS[:, :2], PROBS[:, 0] < PROBS[:, 1]) == 1
    expected = metrics.predict(NETWORK, PARAMS, IMAGES)
    np.testing.assert_array_equal(metrics.predict(NETWORK, PARAMS, IMAGES.tolist()), expected)
    whole = (255 * IMAGES).astype(np.uint8)
    np.testing.assert_array_equal(
        metrics.predict(NETWORK, PARAMS, whole.tolist()), metrics.predict(NETWORK, PARAMS, whole)
    )
    for one, other in zip(
        *(jax.tree.leaves(training.fit(KEY, NETWORK, x, LABELS, RECIPE)) for x in (whole.tolist(), whole)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    answers = perturb(TopK(2), PROBS, IMAGES)
    np.testing.assert_array_equal(perturb(TopK(2), PROBS.tolist(), IMAGES.tolist()), answers)
    np.testing.assert_array_equal(BOX(IMAGES.tolist())[0], BOX(IMAGES)[0])


def test_labels_of_every_form_train_alike():
    def trained(targets):
        return jax.tree.leaves(training.fit(KEY, NETWORK, IMAGES, targets, RECIPE))

    expected = trained(LABELS)
    for targets in (LABELS[:, None], LABELS.tolist(), LABELS.astype(np.float32), jnp.asarray(LABELS), HOT.astype(bool)):
        for leaf, other in zip(trained(targets), expected, strict=True):
            np.testing.assert_array_equal(leaf, other)


@pytest.mark.parametrize(
    ("call", "shapes"),
    [
        (lambda: metrics.accuracy(PROBS, LABELS[:1]), ("(1,)", "(12,)")),
        (lambda: metrics.accuracy(PROBS, HOT), ("(12, 3)", "(12,)")),
        (lambda: metrics.agreement(PROBS, PROBS[:1]), ("(12, 3)", "(1, 3)")),
        (lambda: metrics.agreement(PROBS, PROBS[:, :2]), ("(12, 3)", "(12, 2)")),
        (lambda: metrics.distances(PROBS, PROBS[:1]), ("(12, 3)", "(1, 3)")),
        (lambda: calibration.mean_l1(PROBS, PROBS[:1]), ("(12, 3)", "(1, 3)")),
        (lambda: calibration.accuracy_loss(LABELS)(PROBS, PROBS[:1]), ("(12, 3)", "(1, 3)")),
        (lambda: calibration.accuracy_loss(LABELS[:1])(PROBS, PROBS), ("(1,)", "(12,)")),
        (lambda: training.soft_cross_entropy(jnp.asarray(PROBS), PROBS[:1]), ("(1, 3)", "(12, 3)")),
        (lambda: training.soft_cross_entropy(jnp.asarray(PROBS), PROBS[:, :1]), ("(12, 1)", "(12, 3)")),
    ],
)
def test_nothing_is_broadcast(call, shapes):
    text = refused(call)
    assert all(shape in text for shape in shapes)


PRECISIONS = [(ml_dtypes.bfloat16, 128), (ml_dtypes.bfloat16, 1000), (np.float16, 1000), (np.float16, 21841)]


@pytest.mark.parametrize(("dtype", "classes"), [*PRECISIONS, (np.float32, 21841)])
def test_a_softmax_of_any_precision_passes_and_rows_that_sum_to_something_else_do_not(dtype, classes):
    for scale in (0.0, 1.0, 8.0):
        weights = np.exp(scale * RNG.normal(size=(2, classes)))
        check_posteriors((weights / weights.sum(axis=1, keepdims=True)).astype(dtype))
        # As a softmax in half precision computes: exponentials and their sum are rounded, and then their ratio.
        weights = (weights / weights.max()).astype(dtype)
        total = weights.astype(np.float32).sum(axis=1, keepdims=True).astype(dtype)
        if np.isfinite(total.astype(np.float32)).all():
            check_posteriors(weights / total)
    check_posteriors(np.eye(2, classes, dtype=dtype))
    for wrong in (0.0, 0.5, 0.95, 1.05, 2.0):
        assert "sum to one" in refused(check_posteriors, np.full((2, classes), wrong / classes, dtype))


@pytest.mark.parametrize("defense", [ReverseSigmoid(0.6), RandomNoise(10.0)], ids=repr)
def test_rows_of_half_precision_with_many_classes_are_answered_or_refused(defense):
    probs, images = np.full((2, 1000), 1e-3, ml_dtypes.bfloat16), IMAGES[:2]
    assert np.isfinite(perturb(defense, probs, images, key=KEY)).all()
    for wrong in (0 * probs, 2 * probs):
        with pytest.raises(ValueError, match="sum to one: 2 of 2 rows"):
            perturb(defense, wrong, images, key=KEY)


def test_half_precision_is_measured_in_single():
    half = PROBS.astype(ml_dtypes.bfloat16)
    expected = np.abs(half.astype(np.float64) - PROBS).sum(axis=1).mean()
    assert metrics.distances(half, PROBS)["l1"]["mean"] == pytest.approx(expected, rel=1e-5)
    assert metrics.agreement(half, half.astype(np.float32)) == 1
    assert metrics.accuracy(half, half.astype(np.float32).argmax(axis=1)) == 1


def test_responses_that_are_no_probabilities_are_refused_and_those_before_them_kept():
    def stolen(api):
        return attacks.collect(KEY, attacks.Knockoff(batch_size=4), IMAGES, api, budget=N)

    assert stolen(lambda images: np.zeros((len(images), 1), int)).answers.shape == (N,)
    assert stolen(lambda images: _api(images).tolist()).answers.dtype == np.float32
    for bad in (
        lambda _: None,
        lambda images: ["cat"] * len(images),
        lambda images: _api(images)[:, :1] + np.nan,
        lambda images: 5 * _api(images) - 2,
        lambda images: 100 * _api(images),
        lambda images: np.full((len(images), 3), np.nan),
        lambda _: 0.5,
    ):
        calls = []

        def api(images, bad=bad, calls=calls):
            calls.append(len(images))
            return _api(images) if len(calls) == 1 else bad(images)

        with pytest.raises(attacks.QueriesFailed) as caught:
            stolen(api)
        assert "\n" not in str(caught.value)
        assert caught.value.transfer.queries == 4


@pytest.mark.parametrize("attack", [attacks.AdaptiveKnockoff(LABELS), attacks.jbda(NETWORK, seed_size=2)], ids=type)
def test_strategies_that_look_at_all_classes_refuse_labels(attack):
    def api(images):
        return np.zeros(len(images), int)

    with pytest.raises(ValueError, match=r"must be \(B, K\); for labels write"):
        attacks.collect(KEY, attack, IMAGES, api, budget=4)


def test_responses_that_were_cut_off_are_learnt_from_where_that_is_said():
    cut = np.where(PROBS.max(axis=1, keepdims=True) > PROBS, 0, PROBS)
    assert "sum to one" in refused(training.fit, KEY, NETWORK, IMAGES, cut, RECIPE)
    training.fit(KEY, NETWORK, IMAGES, cut, RECIPE, loss=training.SoftCrossEntropy(normalised=False))


def test_the_hard_label_of_a_label_is_itself():
    found = _recovered(recovery.HardLabel(), answers=LABELS)
    np.testing.assert_array_equal(found.answers, LABELS)


@pytest.mark.parametrize(
    "one", [recovery.HardLabel(), recovery.MostConfident(), recovery.AgreementFilter(), recovery.ClassBalanced()]
)
@pytest.mark.parametrize("answers", [PROBS[:3], PROBS * np.nan, PROBS[:, 0], PROBS.astype(str)], ids=range(4))
def test_recoveries_refuse_responses_that_are_none(one, answers):
    refused(_recovered, one, IMAGES, answers)


def test_counts_of_numpy_are_counts_and_truth_values_are_not():
    assert TopK(np.int64(2)) == TopK(2)
    recipe = training.Recipe(np.int64(1), batch_size=np.int32(4))
    training.fit(KEY, NETWORK, IMAGES, LABELS, recipe)
    for call in (
        lambda: TopK(True),
        lambda: training.Recipe(True),
        lambda: training.Recipe(1.0),
        lambda: attacks.Knockoff(batch_size=np.True_),
        lambda: attacks.collect(KEY, attacks.Knockoff(), IMAGES, _api, budget=True),
        lambda: perturb(TopK(2), PROBS, IMAGES, batch_size=0),
        lambda: metrics.predict(NETWORK, PARAMS, IMAGES, batch_size=2.0),
    ):
        assert "whole number" in refused(call)


@pytest.mark.parametrize("value", ["0.5", None, float("nan")], ids=repr)
def test_parameters_that_are_no_numbers_are_refused(value):
    refused(ReverseSigmoid, value)
    refused(RandomNoise, value)


def test_images_on_an_accelerator_are_looked_at_there(monkeypatch):
    monkeypatch.setattr("pp_jax._checks.images._is_far", lambda images: True)
    far = jnp.asarray(IMAGES)
    np.testing.assert_array_equal(metrics.predict(NETWORK, PARAMS, far), metrics.predict(NETWORK, PARAMS, IMAGES))
    assert f"{N} of {N} are not" in refused(metrics.predict, NETWORK, PARAMS, far + 1)


def test_what_is_read_a_part_at_a_time_is_not_read_as_a_whole():
    class Stored:
        shape, dtype = IMAGES.shape, IMAGES.dtype

        def __len__(self):
            return N

        def __getitem__(self, rows):
            return IMAGES[rows]

    expected = metrics.predict(NETWORK, PARAMS, IMAGES, batch_size=4)
    np.testing.assert_array_equal(metrics.predict(NETWORK, PARAMS, Stored(), batch_size=4), expected)


def test_rows_of_different_lengths_are_refused_in_one_line():
    assert "inhomogeneous" in refused(metrics.predict, NETWORK, PARAMS, [[[[0.5]]], [[[0.5, 0.5]]]])


def test_networks_that_are_traced_are_known_by_shape_alone():
    @jax.jit
    def loss(logits, targets):
        return training.soft_cross_entropy(logits, targets)

    assert np.isfinite(loss(PROBS, LABELS))
    assert "(1,)" in refused(loss, PROBS, LABELS[:1])
    assert np.isnan(loss(PROBS, PROBS * np.nan))
    responses = jax.jit(lambda probs: perturb(TopK(2), probs, IMAGES))(PROBS)
    np.testing.assert_allclose(responses, perturb(TopK(2), PROBS, IMAGES), rtol=1e-6)
