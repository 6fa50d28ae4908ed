"""EMMA undone: its matrix found from responses, and inverted."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from pp_jax._checks import check_answers

_RANK = 1e-5


def transitions_from_pairs(probs: Any, answers: Any) -> np.ndarray:
    """The matrix of a linear defense, from posteriors and the responses to them, by least squares.

    T = argmin ‖Y T − Ỹ‖²,   negative entries cut, rows normalised

    Args:
        probs: y, (n, K), n ≥ K, of rank K: such as one-hots of queries whose class the attacker is sure of.
        answers: ỹ, (n, K).

    Returns:
        T, (K, K).

    Raises:
        ValueError: for numbers that do not fit, rows off the simplex, or posteriors that do not span all classes.
    """
    check_answers(answers)
    check_answers(probs, name="probs")
    given, seen = np.asarray(probs, np.float64), np.asarray(answers, np.float64)
    if given.shape != seen.shape:
        raise ValueError(f"probs and answers must have one shape, not {given.shape} and {seen.shape}")
    rank = int(np.linalg.matrix_rank(given, tol=_RANK))
    if rank < given.shape[1]:
        raise ValueError(f"probs must span all {given.shape[1]} classes, not have rank {rank}: give pairs of each")
    found = np.maximum(np.linalg.lstsq(given, seen, rcond=None)[0], 0)
    return np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-12))


def anchor_transitions(answers: Any) -> np.ndarray:
    """The matrix of a linear defense from its responses alone, K of which are to posteriors near the one-hots.

    All responses y T lie in the simplex that the rows of T span. The corners are found by successive projection: the
    longest response, then the longest once its direction is taken out of all, and so on. Which corner is whose row is
    taken from their largest entries: T keeps most top classes, or the defender would lose its accuracy.

    Args:
        answers: ỹ, (n, K), n ≥ K.

    Returns:
        T, (K, K).

    Raises:
        ValueError: for responses off the simplex or fewer than K.

    Source: the successive projection algorithm, Araújo et al., Chemometrics and Intelligent Laboratory Systems 57,
        2001; anchor points of noise transition matrices, Patrini et al., CVPR 2017.
    """
    check_answers(answers)
    rows = np.asarray(answers, np.float64)
    classes = rows.shape[1]
    if len(rows) < classes:
        raise ValueError(f"answers must be at least {classes}, one for each class, not {len(rows)}")
    rest, corners = rows.copy(), []
    for _ in range(classes):
        lengths = np.sum(rest**2, axis=1)
        corner = int(np.argmax(lengths))
        corners.append(corner)
        direction = rest[corner] / max(np.sqrt(lengths[corner]), 1e-12)
        rest -= np.outer(rest @ direction, direction)
    found = rows[corners]
    owners = linear_sum_assignment(-found)[1]
    return found[np.argsort(owners)]


def invert_transitions(answers: Any, transitions: Any) -> np.ndarray:
    """The posteriors behind the responses of a linear defense: ŷ = ỹ T⁺, cut at zero and normalised.

    Args:
        answers: ỹ, (n, K).
        transitions: T, (K, K); the directions in which it is singular are lost.

    Returns:
        ŷ, (n, K), float32; the response itself where nothing is left.

    Raises:
        ValueError: for responses off the simplex, or a matrix of other classes.
    """
    check_answers(answers)
    rows, matrix = np.asarray(answers, np.float64), np.asarray(transitions, np.float64)
    if matrix.shape != (rows.shape[1], rows.shape[1]):
        raise ValueError(f"transitions must be ({rows.shape[1]}, {rows.shape[1]}), not {matrix.shape}")
    found = np.maximum(rows @ np.linalg.pinv(matrix, rcond=_RANK), 0)
    total = found.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 1e-6, found / np.maximum(total, 1e-6), rows), np.float32)
