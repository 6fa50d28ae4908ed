"""Linear classifiers from posteriors: the logarithm of a ratio of responses is linear in the features."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import as_array, check_finite, check_range

TINY = float(np.finfo(np.float32).tiny)


class Linear(NamedTuple):
    """z = Wx + b with posterior softmax(z). Only differences of classes are determined: the last one has W = 0, b = 0.

    Attributes:
        weights: W, (K, d), float64.
        bias: b, (K,), float64.
    """

    weights: np.ndarray
    bias: np.ndarray

    def logits(self, features: Any) -> np.ndarray:
        """Return z, (n, K), for feature vectors (n, d)."""
        return np.asarray(features, np.float64) @ self.weights.T + self.bias

    def posteriors(self, features: Any) -> np.ndarray:
        """Return softmax(z), (n, K), for feature vectors (n, d)."""
        return np.exp(log_probs(self.logits(features)))


def linear_logits(params: Linear, image: jax.Array) -> jax.Array:
    """Return the logits of one image (H, W, C), as `types.LogitsFn`: what a stolen `Linear` is served and judged by."""
    return jnp.asarray(params.weights, image.dtype) @ image.ravel() + jnp.asarray(params.bias, image.dtype)


def log_probs(logits: np.ndarray) -> np.ndarray:
    """log softmax of the rows, in the logits' precision."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def solve_softmax(features: Any, answers: Any, *, minimum_norm: bool = False) -> Linear:
    """The linear classifier that gives these responses, by least squares on log-ratios.

    log y_i − log y_r = (w_i − w_r)·x + b_i − b_r,   r the class whose smallest response is largest

    d + 1 rows in general position determine all of it; more are averaged. A response of zero has no logarithm: it is
    left out, and its class is solved for with the rest.

    Args:
        features: (n, d), what the last layer reads: the query, or what a public encoder makes of it.
        answers: posteriors, (n, K).
        minimum_norm: where [X 1] has not full rank, take the shortest solution: equal to the victim on the span of
            these features alone.

    Returns:
        The classifier, its last class at zero.

    Raises:
        ValueError: for fewer than d + 1 rows, features of lower rank, responses that are labels or hold too few
            entries above zero.

    Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing machine learning models via prediction APIs", USENIX
        Security 2016, section 4.1; on encoded features: Zanella-Béguelin, Tople, Paverd, Köpf, "Grey-box extraction of
        natural language models", ICML 2021.
    """
    rows, probs = checked_pairs(features, answers)
    design = with_ones(rows)
    if not minimum_norm:
        check_rank(rows)
    reference = int(np.argmax(probs.min(axis=0)))
    above = probs > 0
    solution = np.zeros((design.shape[1], probs.shape[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.log(probs) - np.log(probs[:, reference : reference + 1])
    # Classes that are known in the same rows are solved for together.
    known = above & above[:, reference : reference + 1]
    patterns, members = np.unique(known, axis=1, return_inverse=True)
    for index in range(patterns.shape[1]):
        used, classes = patterns[:, index], np.flatnonzero(members.ravel() == index)
        if not minimum_norm and np.linalg.matrix_rank(design[used]) < design.shape[1]:
            raise ValueError(
                f"class {classes[0]} has a response above zero in {int(used.sum())} of {len(rows)} rows, which do not "
                f"determine its {design.shape[1]} parameters: the responses are truncated or saturated; query more, "
                "nearer to the boundary, or write fit_softmax(features, answers)"
            )
        solution[:, classes] = np.linalg.lstsq(design[used], ratios[used][:, classes], rcond=None)[0]
    solution -= solution[:, -1:]
    return Linear(solution[:-1].T, solution[-1])


def fit_softmax(features: Any, answers: Any, *, ridge: float = 1e-8, steps: int = 500) -> Linear:
    """The linear classifier whose posteriors are closest to these responses, by maximum likelihood.

    min_θ − (1/n) Σ_n Σ_k y_nk log softmax(Wx_n + b)_k + ρ‖W‖²

    What remains to an attacker whose responses are rounded or perturbed: convex, and a response of zero is as good as
    any. Slower and less exact than `solve_softmax` where the responses are clean.

    Args:
        features: (n, d).
        answers: posteriors, (n, K); one-hot labels will do.
        ridge: ρ ≥ 0.
        steps: of L-BFGS, at most.

    Returns:
        The classifier, its last class at zero.

    Raises:
        ValueError: for responses that are labels, or are not as many as the features.
    """
    from scipy.optimize import minimize

    check_range("ridge", ridge, low=0, high=float("inf"))
    rows, probs = checked_pairs(features, answers)
    design, classes = with_ones(rows), probs.shape[1]
    probs = probs / np.maximum(probs.sum(axis=1, keepdims=True), TINY)
    scale = np.maximum(np.abs(design).max(axis=0), TINY)
    design = design / scale
    penalised = np.append(np.ones(rows.shape[1]), 0.0)[:, None]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta = flat.reshape(-1, classes)
        log_posterior = log_probs(design @ theta)
        value = -np.mean(np.sum(probs * log_posterior, axis=1)) + ridge * np.sum(penalised * theta**2)
        slope = design.T @ (np.exp(log_posterior) - probs) / len(probs) + 2 * ridge * penalised * theta
        return float(value), slope.ravel()

    start = np.zeros(design.shape[1] * classes)
    options = {"maxiter": steps, "maxfun": 2 * steps, "ftol": 1e-15, "gtol": 1e-10}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    theta = found.x.reshape(-1, classes) / scale[:, None]
    theta = theta - theta[:, -1:]
    return Linear(theta[:-1].T, theta[-1])


def with_ones(rows: np.ndarray) -> np.ndarray:
    """[X 1], the design matrix of weights and bias."""
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def check_rank(rows: np.ndarray) -> None:
    """Refuse features (n, d) that do not determine a linear function.

    Raises:
        ValueError: naming rows, parameters and rank.
    """
    count, needed = len(rows), rows.shape[1] + 1
    if count < needed:
        raise ValueError(f"{count} queries do not determine {needed} parameters a class: must be at least d + 1")
    rank = int(np.linalg.matrix_rank(with_ones(rows)))
    if rank < needed:
        raise ValueError(
            f"the features of {count} queries have rank {rank}, of {needed} with the bias: must be of full rank; "
            "query more, leave out features that repeat others, or write minimum_norm=True"
        )


def checked_pairs(features: Any, answers: Any) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) and responses (n, K), as many, in float64.

    Raises:
        ValueError: for other shapes, features that are not finite, labels in place of posteriors.
    """
    rows, probs = as_array(features, "features"), as_array(answers, "answers")
    if np.ndim(rows) != 2 or np.ndim(probs) != 2 or len(rows) != len(probs) or probs.shape[1] < 2:
        raise ValueError(
            f"features and answers have shapes {np.shape(rows)} and {np.shape(probs)}: must be (n, d) and posteriors "
            "(n, K) with K ≥ 2; labels do not do"
        )
    check_finite(rows, "features")
    check_finite(probs, "answers")
    return np.asarray(rows, np.float64), np.asarray(probs, np.float64)
