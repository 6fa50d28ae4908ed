"""Reverse sigmoid, truncation, noise and chains: published numbers, promises, bad parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import MAD, RandomNoise, ReverseSigmoid, Rounding, Top1, TopK, chain
from pp_jax.types import Query
from support import broken_promises, golden, hard_posteriors, numpy_distance

REVERSE, TRUNCATION = golden("reverse_sigmoid"), golden("truncation")
POSTERIORS = hard_posteriors(np.random.default_rng(0), 3000, 6)
KINDS = [(norm, kind) for norm in ("l1", "l2") for kind in ("uniform", "gaussian")]
NOISE = [RandomNoise(2.0, *kind) for kind in KINDS]
LOUD = [RandomNoise(radius, *kind) for radius in (400.0, 1e14) for kind in KINDS]


@jax.jit
def _answers(defense, probs):
    """Answers to a batch; each row has a key of its own."""
    keys = jax.random.split(jax.random.key(0), len(probs))
    return jax.vmap(lambda y, k: defense(y, Query(jnp.zeros((1, 1, 1)), k)))(probs, keys)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("classes", [int(k) for k in REVERSE["Ks"]])
def test_reverse_sigmoid_is_the_published_one(classes, dtype):
    expected, peaked = REVERSE[f"K{classes}/y_tilde"], REVERSE[f"K{classes}/kind"] == 0
    with jax.enable_x64(dtype == "float64"):
        y = jnp.asarray(REVERSE[f"K{classes}/y"], dtype)
        betas, gammas = (jnp.asarray(REVERSE[k], dtype) for k in ("betas", "gammas"))
        grid = jax.vmap(jax.vmap(lambda b, g: _answers(ReverseSigmoid(b, g), y), (None, 0)), (0, None))
        error = np.abs(np.asarray(grid(betas, gammas)) - expected).max(axis=(0, 1, 3))
    near = 1e-12 if dtype == "float64" else np.where(peaked, 1e-4, 1e-5)
    assert (error <= near).all()


@pytest.mark.parametrize("key", [k for k in TRUNCATION if "/truncate/" in k])
def test_truncation_is_exactly_the_published_one(key):
    k, decimals = (None if part.endswith("None") else int(part.split("=")[1]) for part in key.split("/")[2:])
    y = TRUNCATION[f"{key.split('/')[0]}/y"][: len(TRUNCATION[key])]
    links = [] if k is None else [TopK(k, renormalise=False)]
    links += [Rounding(decimals, renormalise=False)] if decimals else []
    with jax.enable_x64(True):
        found = np.asarray(_answers(chain(*links), jnp.asarray(y)))
    # The published code takes "no decimals" for "which classes are among the top k", and without k for nothing to do.
    found = found > 0 if decimals == 0 and k is not None else found
    np.testing.assert_array_equal(found, TRUNCATION[key])


@pytest.mark.parametrize("key", [k for k in TRUNCATION if "/art_rounded/" in k or k.endswith("/art_class_labels")])
def test_rounding_and_labels_are_those_of_a_second_published_code(key):
    y = TRUNCATION[f"{key.split('/')[0]}/y"]
    defense = Top1() if key.endswith("labels") else Rounding(int(key.split("=")[1]), renormalise=False)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(np.asarray(_answers(defense, jnp.asarray(y))), TRUNCATION[key])


@pytest.mark.parametrize(
    "defense",
    [ReverseSigmoid(0.7, 0.4), TopK(2), Rounding(1), Rounding(0), Top1(), chain(TopK(3), Rounding(1)), *NOISE, *LOUD],
    ids=repr,
)
def test_answers_are_posteriors(defense):
    answers = np.asarray(_answers(defense, POSTERIORS))
    counts = broken_promises(POSTERIORS, answers, np.float32([np.inf]), distance="L1", keep_argmax=False)
    assert counts == dict.fromkeys(counts, 0)


@pytest.mark.parametrize("defense", [TopK(2), Top1(), TopK(2, renormalise=False)], ids=repr)
def test_the_argmax_is_kept(defense):
    np.testing.assert_array_equal(_answers(defense, POSTERIORS).argmax(1), POSTERIORS.argmax(1))


def test_a_one_hot_becomes_uniform_under_reverse_sigmoid_at_beta_one():
    np.testing.assert_allclose(_answers(ReverseSigmoid(1.0), jnp.eye(4)), 0.25, atol=1e-6)


def test_beta_zero_and_no_noise_return_y():
    for defense in (ReverseSigmoid(0.0), RandomNoise(0.0)):
        np.testing.assert_allclose(_answers(defense, POSTERIORS), POSTERIORS, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("defense", NOISE, ids=repr)
def test_noise_stays_within_its_radius_in_logit_space(defense):
    y = np.float32([[0.5, 0.5]] * 500)
    z = np.asarray(_answers(defense, y), np.float64)
    # With two classes the answer's odds are those of σ(δ₁) and σ(δ₂), so that |log odds| ≤ |δ₁| + |δ₂|.
    reach = 2.0 if defense.norm == "l1" else 2 * np.sqrt(2)
    assert np.abs(np.log(z[:, 0] / z[:, 1])).max() <= reach
    assert numpy_distance("L1", y, z).max() > 0.3


def test_ties_beyond_k_are_kept_lowest_class_first():
    np.testing.assert_array_equal(_answers(TopK(2), jnp.full((1, 4), 0.25)), [[0.5, 0.5, 0, 0]])


def test_where_everything_rounds_to_zero_the_answer_is_the_label():
    y = jnp.full((1, 40), 1 / 40).at[0, 7].add(1e-3).at[0, 8].add(-1e-3)
    np.testing.assert_array_equal(_answers(Rounding(1), y), np.eye(40)[[7]])


def test_the_empty_chain_is_the_identity():
    np.testing.assert_array_equal(_answers(chain(), POSTERIORS), POSTERIORS)
    for defense in (TopK(2), ReverseSigmoid(0.5)):
        alone = _answers(defense, POSTERIORS)
        np.testing.assert_array_equal(_answers(chain(chain(), defense), POSTERIORS), alone)
        np.testing.assert_array_equal(_answers(chain(defense, chain()), POSTERIORS), alone)


def test_chains_are_associative():
    a, b, c = ReverseSigmoid(0.3), TopK(4), Rounding(2)
    expected = _answers(chain(a, b, c), POSTERIORS)
    np.testing.assert_array_equal(_answers(chain(chain(a, b), c), POSTERIORS), expected)
    np.testing.assert_array_equal(_answers(chain(a, chain(b, c)), POSTERIORS), expected)


def test_a_chain_is_random_if_a_link_is_and_its_links_draw_apart():
    assert not chain(TopK(2), Top1()).random
    assert chain(TopK(2), chain(RandomNoise(1.0))).random
    twice = _answers(chain(RandomNoise(1.0), RandomNoise(1.0)), jnp.full((1, 4), 0.25))
    assert (twice != _answers(RandomNoise(2.0), jnp.full((1, 4), 0.25))).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReverseSigmoid(1.5), "beta must be at least 0 and at most 1, not 1.5"),
        (lambda: ReverseSigmoid(-0.1), "beta must be at least 0 and at most 1, not -0.1"),
        (lambda: ReverseSigmoid(0.5, 0.0), "gamma must be above 0 and at most 1, not 0"),
        (lambda: RandomNoise(-1.0), "radius must be at least 0 and at most 1e\\+15, not -1"),
        (lambda: RandomNoise(float("inf")), "radius must be at least 0 and at most 1e\\+15, not inf"),
        (lambda: RandomNoise(float("nan")), "radius must be at least 0 and at most 1e\\+15, not nan"),
        (lambda: RandomNoise(1.0, "l3"), "norm must be 'l1' or 'l2', not 'l3'"),
        (lambda: RandomNoise(1.0, distribution="cauchy"), "distribution must be 'uniform' or 'gaussian', not 'cauchy'"),
        (lambda: TopK(0), "k must be a whole number of at least 1, not 0"),
        (lambda: TopK(1.5), "k must be a whole number of at least 1, not 1.5"),
        (lambda: Rounding(-1), "decimals must be a whole number of at least 0, not -1"),
        (lambda: MAD(None, None, -0.1), "epsilon must be at least 0 and at most 2 in L1, not -0.1"),
        (lambda: MAD(None, None, 2.5), "epsilon must be at least 0 and at most 2 in L1, not 2.5"),
        (lambda: MAD.argmax_preserving(None, None, jnp.array([0.5, 3.0])), "at most 2 in L1, not 3"),
    ],
)
def test_parameters_out_of_range_are_refused_by_name_and_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()
