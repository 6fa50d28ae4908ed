"""What a set of responses looks like, as numbers that tell defenses apart."""

from __future__ import annotations

import numpy as np

_LEVELS = (0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
_BINS = 40
_FLOOR = 1e-7
# Of decimals: how far off the grid an entry may be, and by how many units the divisor of a normalisation may differ.
_ON_GRID, _UNITS = 3e-6, 5
# Entries closer than this are tied; the margin of published defenses that keep the top class is 1e-4.
_TIED = 3e-4
_POINTS = 16


def traits(responses: np.ndarray) -> np.ndarray:
    """Moments and histograms of responses, (F,) float32.

    Of the sorted entries: quantiles of log ỹ of the first three ranks, the middle and the last; of all entries and of
    the largest: a histogram of 40 bins. Of their form: the sum; zeros; how many entries remain; whether ỹ, or ỹ times
    a divisor near 10ᵈ, is whole in units of 10⁻ᵈ for d = 1, 2, 3; ties at the top and below. Of the classes: the
    entropy of argmax, and how far each class's distribution is from the nearest other class's, which is near zero where
    classes are exchanged at random.

    Args:
        responses: ỹ, (n, K), finite.

    Returns:
        F numbers, never NaN; F is the same for all n and K.
    """
    rows = np.asarray(responses, np.float32)
    total = rows.sum(axis=1, keepdims=True)
    probs = np.maximum(rows, 0) / np.where(total > 0, total, 1)
    ordered = -np.sort(-probs, axis=1)
    parts = (
        _of_ranks(ordered),
        _histogram(probs) * probs.shape[1],
        _histogram(ordered[:, 0]),
        _of_form(rows, probs, ordered, total[:, 0]),
        _of_classes(probs),
    )
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)


def class_distances(probs: np.ndarray) -> np.ndarray:
    """Wasserstein distance of log-probabilities between the distributions of two classes over the rows, (K, K)."""
    levels = (np.arange(_POINTS) + 0.5) / _POINTS
    spread = np.quantile(np.log(probs + _FLOOR), levels, axis=0)
    return np.abs(spread[:, :, None] - spread[:, None, :]).mean(axis=0)


def _of_ranks(ordered: np.ndarray) -> np.ndarray:
    """Quantiles of the log-probabilities of some ranks, of the entropy, and of the two largest entries."""
    classes = ordered.shape[1]
    logs = np.log(ordered + _FLOOR)
    entropy = -(ordered * logs).sum(axis=1, keepdims=True)
    ranks = [0, 1, min(2, classes - 1), classes // 2, classes - 1]
    return np.quantile(np.concatenate([logs[:, ranks], entropy, ordered[:, :2]], axis=1), _LEVELS, axis=0)


def _histogram(values: np.ndarray) -> np.ndarray:
    """Square roots of the shares in equal bins of [0, 1]."""
    bins = np.minimum((values * _BINS).astype(int), _BINS - 1)
    return np.sqrt(np.bincount(bins.ravel(), minlength=_BINS) / values.size)


def _of_form(rows: np.ndarray, probs: np.ndarray, ordered: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Shares of the responses with this or that form."""
    count = (probs > 0).sum(axis=1)
    near = ordered[:, :1] - ordered[:, 1:] < _TIED
    level = (ordered[:, :-1] - ordered[:, 1:] < _FLOOR) & (ordered[:, :-1] > 1e-3)
    shares = [
        total,
        np.abs(total - 1) > 1e-3,
        count < probs.shape[1],
        *(count == number for number in (1, 2, 3)),
        *(_on_grid(rows, probs, digits) for digits in (1, 2, 3)),
        near[:, 0],
        near.mean(axis=1),
        level.any(axis=1),
        level.mean(axis=1),
    ]
    return np.array([share.mean() for share in shares])


def _on_grid(rows: np.ndarray, probs: np.ndarray, digits: int) -> np.ndarray:
    """Whether all entries of a response, or of one that was divided by its sum, are whole in units of 10⁻ᵈ, (n,)."""
    scale = 10.0**digits
    divisors = scale + np.arange(-_UNITS, _UNITS + 1)
    units = np.concatenate([rows[:, None] * scale, probs[:, None] * divisors[:, None]], axis=1)
    return (np.abs(units - np.round(units)) < _ON_GRID * scale).all(axis=2).any(axis=1)


def _of_classes(probs: np.ndarray) -> np.ndarray:
    """How the classes share the argmax, and how alike the most alike are."""
    classes = probs.shape[1]
    shares = np.sort(np.bincount(probs.argmax(axis=1), minlength=classes) / len(probs))
    entropy = -(shares * np.log(shares + _FLOOR)).sum()
    apart = class_distances(probs)
    typical = apart.sum() / (classes * (classes - 1)) + _FLOOR
    np.fill_diagonal(apart, np.inf)
    nearest, choice = apart.min(axis=1), apart.argmin(axis=1)
    mutual = (choice[choice] == np.arange(classes)).mean()
    seen = np.quantile(nearest / typical, (0.0, 0.25, 0.5, 0.75, 1.0))
    return np.concatenate([[entropy, shares[0], shares[-1], mutual, np.log(typical)], seen, np.log(seen + 1e-3)])
