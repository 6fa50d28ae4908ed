"""Answers of an API: what can be used is passed on as it is, and anything else is one line."""

import numpy as np
import pytest

from pp_jax.serving.answers import checked

ROWS = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (ROWS, ROWS),
        (ROWS.tolist(), ROWS.astype(np.float32)),  # lists have no precision of their own
        (ROWS.astype(np.float16), ROWS.astype(np.float16)),
        (np.eye(3, dtype=int), np.eye(3, dtype=int)),
        (ROWS * [1, 0], ROWS * [1, 0]),  # truncated: one class of each
        ([1, 0, 1], np.array([1, 0, 1])),
        ([[1], [0], [1]], np.array([1, 0, 1])),
        (ROWS[:, :1], ROWS[:, :1]),  # one probability
    ],
)
def test_rows_and_class_indices_are_arrays(given, expected):
    found = checked(given, 3)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "the API answered None"),
        (0.5, r"the API answered float64 of shape \(\)"),
        (ROWS[:2], "3 asked, 2 answered"),
        (ROWS[0], "3 asked, 2 answered"),
        (ROWS[:, 0], r"float64 of shape \(3,\): must be \(B, K\), or \(B,\) class indices"),
        (ROWS[None].repeat(3, 0), r"float64 of shape \(3, 3, 2\)"),
        (np.array([None] * 3), "the API answered object"),
        (["a", "b", "c"], "the API answered <U1"),
        (ROWS * [1, np.nan], "must be finite: 3 of 3 rows are not"),
        (ROWS + np.inf, "must be finite"),
        (ROWS - 0.01, r"must be probabilities in \[0, 1\], not in \[-0.01, 0.99\]: logits need a softmax"),
        (ROWS * 100, r"not in \[0, 100\]: .* percent a division by 100"),
    ],
)
def test_anything_else_is_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        checked(given, 3)


def test_rows_of_another_length_than_before_are_refused():
    with pytest.raises(ValueError, match=r"rows of shape \(2,\): must be \(4,\) as before"):
        checked(ROWS, 3, np.zeros((5, 4)))
    with pytest.raises(ValueError, match=r"rows of shape \(\): must be \(4,\) as before"):
        checked([0, 1, 1], 3, np.zeros((5, 4)))
