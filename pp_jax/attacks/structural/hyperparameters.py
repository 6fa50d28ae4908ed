"""Hyper-parameters from learned parameters: at a minimum, the gradients of loss and penalty cancel."""

from typing import Any, Literal, NamedTuple

import numpy as np

from pp_jax._checks import as_array, check_finite, check_range


class StolenHyperparameter(NamedTuple):
    """What the equations say of λ.

    Attributes:
        value: λ̂.
        residual: ‖b + λ̂a‖/‖b‖: 0 where the parameters are a minimum of this objective; near 1 they are of another.
    """

    value: float
    residual: float


def least_squares(loss_gradient: Any, penalty_gradient: Any) -> StolenHyperparameter:
    """The λ with ∇L(w) + λ∇R(w) = 0, in least squares.

    λ̂ = −aᵀb / aᵀa,   a = ∇R(w), b = ∇L(w)

    Args:
        loss_gradient: b, an array of any shape: at the learned parameters, on the training data.
        penalty_gradient: a, of the same shape.

    Returns:
        λ̂ and how well it satisfies the equations.

    Raises:
        ValueError: for arrays of different shapes or with NaN, or a penalty whose gradient is zero.

    Source: Wang, Gong, "Stealing hyperparameters in machine learning", IEEE S&P 2018, section IV.
    """
    b, a = (_vector(each, name) for each, name in ((loss_gradient, "loss"), (penalty_gradient, "penalty")))
    if a.shape != b.shape:
        raise ValueError(f"the gradients have {b.size} and {a.size} entries: must be as many")
    square = float(a @ a)
    if square == 0:
        raise ValueError("the penalty's gradient is zero (all weights are), so that any hyper-parameter fits")
    value = -float(a @ b) / square
    size = float(np.linalg.norm(b))
    return StolenHyperparameter(value, float(np.linalg.norm(b + value * a)) / size if size else 0.0)


def ridge(features: Any, targets: Any, weights: Any, *, bias: float = 0.0) -> StolenHyperparameter:
    """λ of ridge regression, ‖y − Xw − b‖² + λ‖w‖²: scikit-learn's `Ridge(alpha=λ)`.

    Args:
        features: X, (n, d).
        targets: y, (n,).
        weights: w, (d,).
        bias: b.

    Returns:
        λ̂ and its residual.

    Raises:
        ValueError: for other shapes, or weights that are all zero.
    """
    x, y, w = _trained(features, targets, weights)
    return least_squares(2 * x.T @ (x @ w + bias - y), 2 * w)


def lasso(features: Any, targets: Any, weights: Any, *, bias: float = 0.0) -> StolenHyperparameter:
    """λ of the lasso, ‖y − Xw − b‖² + λ‖w‖₁, by the weights that are not zero: `Lasso(alpha=λ/2n)`.

    Args:
        features: X, (n, d).
        targets: y, (n,).
        weights: w, (d,).
        bias: b.

    Returns:
        λ̂ and its residual.

    Raises:
        ValueError: for other shapes, or weights that are all zero.
    """
    x, y, w = _trained(features, targets, weights)
    used = w != 0
    return least_squares((2 * x.T @ (x @ w + bias - y))[used], np.sign(w[used]))


def kernel_ridge(kernel: Any, targets: Any, dual: Any) -> StolenHyperparameter:
    """λ of kernel ridge regression, ‖y − Ka‖² + λaᵀKa, by (K + λ)a = y: `KernelRidge(alpha=λ)`.

    Args:
        kernel: K, (n, n).
        targets: y, (n,).
        dual: a, (n,).

    Returns:
        λ̂ and its residual.

    Raises:
        ValueError: for other shapes, or coefficients that are all zero.
    """
    k, y, a = _trained(kernel, targets, dual)
    return least_squares(k @ a - y, a)


def logistic(
    features: Any, labels: Any, weights: Any, *, bias: float = 0.0, penalty: Literal["l1", "l2"] = "l2"
) -> StolenHyperparameter:
    """λ of binary logistic regression, Σ log(1 + exp(−t f(x))) + λR(w), t = ±1.

    R = ½‖w‖² or ‖w‖₁: scikit-learn's C is 1/λ.

    Args:
        features: X, (n, d).
        labels: 0 or 1, (n,).
        weights: w, (d,).
        bias: b of f(x) = w·x + b.
        penalty: "l2" or "l1", which goes by the weights that are not zero.

    Returns:
        λ̂ and its residual.

    Raises:
        ValueError: for other shapes or labels, an unknown penalty, or weights that are all zero.
    """
    if penalty not in ("l1", "l2"):
        raise ValueError(f"penalty must be 'l1' or 'l2', not {penalty!r}")
    x, y, w = _trained(features, labels, weights)
    _check_binary(y)
    slope = x.T @ (0.5 * (1 + np.tanh(0.5 * (x @ w + bias))) - y)
    used = np.ones(len(w), bool) if penalty == "l2" else w != 0
    return least_squares(slope[used], w if penalty == "l2" else np.sign(w[used]))


def svm(
    features: Any,
    labels: Any,
    weights: Any,
    *,
    bias: float = 0.0,
    loss: Literal["hinge", "squared_hinge"] = "hinge",
    tolerance: float = 1e-3,
) -> StolenHyperparameter:
    """λ of a linear support vector machine, Σ loss(t f(x)) + (λ/2)‖w‖², t = ±1: scikit-learn's C is 1/λ.

    The hinge has no gradient at margin 1. Samples there have a multiplier β between 0 and 1 of their own, unknown:
    λw = Σ_{margin < 1} t x + Σ_{margin = 1} β t x and 0 = Σ_{margin < 1} t + Σ_{margin = 1} β t are solved for λ and β
    together.

    Args:
        features: X, (n, d).
        labels: 0 or 1, (n,).
        weights: w, (d,).
        bias: b of f(x) = w·x + b, not penalised (`SVC(kernel="linear")`); for `LinearSVC`, which penalises it, append
            it to w and a column of ones to X.
        loss: "hinge" or "squared_hinge".
        tolerance: of margin 1.

    Returns:
        λ̂ and its residual.

    Raises:
        ValueError: for other shapes or labels, an unknown loss, weights that are all zero, or more samples at margin 1
            than the equations can bear.

    Source: Wang, Gong, "Stealing hyperparameters in machine learning", IEEE S&P 2018; they leave samples at margin 1
        out, which is an approximation: the multipliers are this library's.
    """
    if loss not in ("hinge", "squared_hinge"):
        raise ValueError(f"loss must be 'hinge' or 'squared_hinge', not {loss!r}")
    check_range("tolerance", tolerance, low=0, high=1)
    x, y, w = _trained(features, labels, weights)
    _check_binary(y)
    sign = 2 * y - 1
    gap = 1 - sign * (x @ w + bias)
    if loss == "squared_hinge":
        return least_squares(-2 * x.T @ (sign * np.maximum(gap, 0)), w)
    if not w.any():
        raise ValueError("the penalty's gradient is zero (all weights are), so that any hyper-parameter fits")
    pulls = np.concatenate([x, np.ones((len(x), 1))], axis=1) * sign[:, None]
    at, inside = np.abs(gap) <= tolerance, gap > tolerance
    if not inside.any():
        raise ValueError("no sample is inside of the margin, so that every hyper-parameter below this one fits as well")
    known = pulls[inside].sum(axis=0)
    design = np.concatenate([np.append(w, 0)[:, None], -pulls[at].T], axis=1)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError(
            f"{int(at.sum())} samples at margin 1 leave {design.shape[1]} unknowns for {len(known)} equations: the "
            "hyper-parameter is not determined; it may be anything in an interval"
        )
    solution = np.linalg.lstsq(design, known, rcond=None)[0]
    left = float(np.linalg.norm(design @ solution - known) / np.linalg.norm(known))
    return StolenHyperparameter(float(solution[0]), left)


def _trained(features: Any, targets: Any, weights: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training data and learned parameters, in float64.

    Raises:
        ValueError: naming their shapes.
    """
    x, y, w = (np.asarray(as_array(each, name), np.float64) for each, name in (
        (features, "features"), (targets, "targets"), (weights, "weights")
    ))  # fmt: skip
    y, w = y.reshape(-1), w.reshape(-1)
    if x.ndim != 2 or len(x) != len(y) or x.shape[1] != len(w):
        raise ValueError(
            f"features, targets and weights have shapes {x.shape}, {y.shape} and {w.shape}: must be (n, d), (n,), (d,)"
        )
    for each, name in ((x, "features"), (y, "targets"), (w, "weights")):
        check_finite(each, name)
    return x, y, w


def _check_binary(labels: np.ndarray) -> None:
    """Refuse labels other than 0 and 1."""
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"labels must be 0 or 1, not {np.unique(labels)[:5].tolist()}; write (labels == one).astype(int)"
        )


def _vector(values: Any, name: str) -> np.ndarray:
    """A gradient as a vector in float64."""
    vector = np.asarray(as_array(values, f"the {name}'s gradient"), np.float64).reshape(-1)
    check_finite(vector, f"the {name}'s gradient")
    return vector
