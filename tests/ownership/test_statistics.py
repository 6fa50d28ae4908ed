"""The tests behind claims agree with SciPy's, and p-values are uniform where nothing is to be found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pp_jax.ownership import binomial_bound, binomial_tail, rank_p_value, welch


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.001, 0.999))
def test_the_binomial_tail_is_scipys(one, other, chance):
    successes, trials = sorted((one, other))
    expected = stats.binom.sf(successes - 1, trials, chance)
    assert binomial_tail(successes, trials, chance) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@given(st.integers(0, 40), st.integers(1, 40))
def test_the_bound_is_that_of_clopper_and_pearson(one, other):
    successes, trials = sorted((one, other))
    expected = stats.binomtest(successes, trials, alternative="less").proportion_ci(0.95).high
    assert binomial_bound(successes, trials) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(2, 30), st.floats(-2, 2), st.floats(1e-3, 1e3))
def test_welchs_t_freedom_and_p_are_scipys(seed, own, other, shift, scale):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(shift, scale, own), rng.normal(0, 1, other)
    expected = stats.ttest_ind(a, b, equal_var=False, alternative="greater")
    assert welch(a, b) == pytest.approx((expected.statistic, expected.df, expected.pvalue), rel=1e-7, abs=1e-12)


def test_p_values_of_two_equal_populations_are_uniform():
    rng = np.random.default_rng(0)
    found = [welch(rng.normal(0, 3, 20), rng.normal(0, 1, 35))[2] for _ in range(500)]
    ranks = [rank_p_value(rows[0], rows[1:]) for rows in rng.normal(size=(500, 100))]
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert stats.kstest(np.array(ranks) - rng.uniform(0, 0.01, 500), "uniform").pvalue > 0.01


def test_samples_that_do_not_vary_are_judged_by_their_means():
    assert welch([0.5, 0.5], [0.1, 0.1]) == (np.inf, 2.0, 0.0)
    assert welch([0.1, 0.1], [0.1, 0.1]) == (0.0, 2.0, 1.0)
    assert welch([0.0, 0.0], [0.1, 0.1])[2] == 1.0


def test_a_tie_counts_against_the_claim():
    assert rank_p_value(1.0, [1.0, 0.0, 2.0]) == 0.75
    assert rank_p_value(3.0, [1.0, 0.0, 2.0]) == 0.25


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binomial_tail(3, 2, 0.5), "successes 3 of 2 at chance 0.5: must be k ≤ n and q in"),
        (lambda: binomial_bound(0, 0), "trials must be a whole number of at least 1, not 0"),
        (lambda: welch([1.0], [1.0, 2.0]), r"samples must be \(n,\) with n ≥ 2, not \(1,\) and \(2,\)"),
        (lambda: welch([1.0, np.nan], [1.0, 2.0]), "samples must be finite"),
        (lambda: rank_p_value(1.0, []), r"others must be \(m,\) with m ≥ 1"),
        (lambda: rank_p_value(np.nan, [1.0]), "effects must be numbers"),
    ],
)
def test_what_cannot_be_tested_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
