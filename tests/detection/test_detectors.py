"""Each detector against an independent computation of its score; all of them under one contract."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

import smallworld
from pp_jax import detection, novelty, training
from pp_jax.detection import windows

N = 24


@functools.cache
def world():
    """The victim's view of 256 images, and its training set's."""
    victim = smallworld.victim()
    seen = detection.observe(victim.network, victim.params, smallworld.pool().images)
    trained = detection.observe(victim.network, victim.params, victim.images)
    return victim, seen, trained


@functools.cache
def detectors():
    """One of each."""
    victim, _, trained = world()
    gate = novelty.fit(victim.network, victim.params, victim.images, victim.labels)
    snapshots = []
    training.fit(
        jax.random.key(0), victim.network, victim.images, victim.labels, training.Recipe(4, 32, 0.05),
        on_epoch=lambda state, loss: snapshots.append(jax.tree.map(np.array, state.params)),
    )  # fmt: skip
    key = jax.random.key(1)
    small = detection.Projected.drawn(key, detection.Pixels(), of=64, to=8)
    vectors = np.stack([np.asarray(small(image, None)) for image in trained.images])
    return {
        "prada": detection.Prada(smallworld.CLASSES, 8, small, capacity=64, window=128),
        "hoda": detection.Hoda.fitted(victim.network, snapshots, victim.images, window=N),
        "warning": detection.ExtractionWarning.fitted(
            small, vectors, np.argmax(trained.probs, axis=1), memory=64, every=N
        ),
        "dadd": detection.Dadd.fitted(trained.features, victim.labels, window=16),
        "mmd": detection.LabelMMD.fitted(trained.probs, window=N),
        "ks": detection.KolmogorovSmirnov.fitted(detection.Confidence(), *trained, window=N),
        "coverage": detection.Coverage.fitted(key, trained.features, bits=4),
        "similarity": detection.Similarity.fitted(trained.features, memory=64, window=N, share=0.05),
        "p-value": detection.MeanPValue(detection.PValue(gate), window=N),
    }


@functools.cache
def streams():
    return np.random.default_rng(0).integers(0, 256, (3, 60))


@functools.cache
def scores(name):
    return np.asarray(detection.watch(detectors()[name], world()[1], streams()))


ALL = ["prada", "hoda", "warning", "dadd", "mmd", "ks", "coverage", "similarity", "p-value"]


@pytest.mark.parametrize("name", [*(pytest.param(n, marks=pytest.mark.slow) for n in ALL[:2]), *ALL[2:]])
def test_accounts_together_score_as_each_alone_and_in_two_parts(name):
    detector, seen = detectors()[name], world()[1]
    update = jax.jit(lambda detector, state, row: detector.update(state, *row))
    state = detector.init()
    alone = []
    for row in streams()[1]:
        before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
        state, score = update(detector, state, (seen.images[row], seen.probs[row], seen.features[row]))
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == before
        alone.append(float(score))
    np.testing.assert_allclose(scores(name)[1], alone, rtol=1e-3, atol=1e-5)
    assert not np.isnan(scores(name)).any()
    assert np.isfinite(scores(name)[:, -1]).all() or name == "prada"


def test_the_dadd_score_is_the_frechet_distance_of_scipy():
    detector, seen = detectors()["dadd"], world()[1]
    labels = np.asarray(world()[0].labels)
    trained = np.asarray(world()[2].features, np.float64)
    rows = streams()[0][-16:]
    features, classes = np.asarray(seen.features[rows], np.float64), np.argmax(seen.probs[rows], axis=1)
    wanted = 0
    for c in np.unique(classes):
        own, group = features[classes == c], trained[labels == c]
        sigma, hat = np.cov(group.T, bias=True), np.cov(own.T, bias=True)
        cross = np.sqrt(np.maximum(scipy.linalg.eigvals(sigma @ hat).real, 0)).sum()
        distance = np.sum((group.mean(0) - own.mean(0)) ** 2) + np.trace(sigma + hat) - 2 * cross
        wanted += len(own) * distance / 16
    np.testing.assert_allclose(scores("dadd")[0, -1], wanted, rtol=5e-3)
    assert detector.window == 16


def test_the_ks_score_is_the_two_sample_statistic_of_scipy():
    detector, seen = detectors()["ks"], world()[1]
    own = np.max(seen.probs[streams()[2][-N:]], axis=1)
    wanted = scipy.stats.ks_2samp(own, np.asarray(detector.benign)).statistic
    np.testing.assert_allclose(scores("ks")[2, -1], wanted, atol=1e-6)


def test_the_mmd_of_labels_is_the_sum_over_pairs():
    detector, seen = detectors()["mmd"], world()[1]
    own = np.argmax(seen.probs[streams()[0][-N:]], axis=1)
    equal = own[:, None] == own[None, :]
    shares = np.asarray(detector.shares)
    wanted = (equal.sum() - N) / (N * (N - 1)) - 2 * shares[own].mean() + (shares**2).sum()
    np.testing.assert_allclose(scores("mmd")[0, -1], wanted, atol=1e-6)


def test_hardness_is_the_epoch_from_which_all_snapshots_agree():
    detector = detectors()["hoda"]
    image = smallworld.pool().images[7]
    params = [jax.tree.map(lambda leaf, e=e: leaf[e], detector.snapshots) for e in range(4)]
    classes = [int(jnp.argmax(detector.logits_fn(p, image))) for p in params]
    wanted = max((e + 1 for e in range(4) if classes[e] != classes[-1]), default=0)
    assert int(detector.hardness(image)) == wanted
    assert detector.benign.sum() == pytest.approx(1)


def test_a_query_repeated_is_similar_and_covers_nothing_new():
    seen = world()[1]
    repeated = np.zeros((1, 2 * N), int)
    assert detection.watch(detectors()["similarity"], seen, repeated)[0, -1] == 1
    coverage = np.asarray(detection.watch(detectors()["coverage"], seen, repeated))[0]
    assert (coverage == 1 / 16).all()


def test_an_account_of_one_class_stands_out_by_its_labels():
    seen = world()[1]
    one = np.flatnonzero(np.argmax(seen.probs, axis=1) == 2)[:N][None]
    assert detection.watch(detectors()["mmd"], seen, one)[0, -1] > scores("mmd")[:, -1].max() + 0.3


def test_noise_stands_out_by_its_p_values():
    victim, _, _ = world()
    noise = np.random.default_rng(1).integers(0, 256, (64, 8, 8, 1), np.uint8)
    seen = detection.observe(victim.network, victim.params, noise)
    strange = detection.watch(detectors()["p-value"], seen, np.arange(64)[None])[0, -1]
    assert strange > scores("p-value")[:, -1].max()


def test_memory_is_what_the_state_holds():
    assert detection.memory(detectors()["mmd"]) == 4 * (N + 1)
    assert detection.memory(detectors()["coverage"]) == 16
    assert detection.memory(detectors()["similarity"]) == 4 * (64 * 16 + 2) + N


def test_a_window_keeps_the_last_rows():
    window = windows.empty(3)
    for value in range(5):
        window = windows.push(window, jnp.float32(value))
    assert sorted(window.rows.tolist()) == [2, 3, 4]
    assert window.full


def test_a_detector_without_enough_to_learn_from_is_refused():
    with pytest.raises(ValueError, match="snapshots must be at least 2, not 1"):
        detection.Hoda.fitted(smallworld.network(), [{}], smallworld.pool().images)
    with pytest.raises(ValueError, match="class 1 has 1"):
        detection.Dadd.fitted(np.zeros((3, 2)), [0, 0, 1])
    with pytest.raises(ValueError, match="more than 256 vectors"):
        detection.Similarity.fitted(np.zeros((9, 2)))
