"""What stealing gained and what defending cost, as numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax import gram as grams
from pp_jax._batching import each
from pp_jax._checks import as_array, as_labels, as_pixels, check_alike, check_count, check_finite, check_posteriors
from pp_jax.geometry.distance import KL, L1, L2
from pp_jax.solvers import objective
from pp_jax.training.predicting import predict
from pp_jax.types import LogitsFn, Params

__all__ = ["accuracy", "agreement", "angular_deviation", "distances", "entropy", "predict", "summary"]

_BATCH = 500


def accuracy(probs: Any, labels: Any) -> float:
    """Share of rows whose argmax (first index on ties) is the label.

    Args:
        probs: (N, K).
        labels: class indices 0 … K − 1, (N,) or a column (N, 1).

    Raises:
        ValueError: for NaN, labels that are no classes, or other numbers of rows: nothing is broadcast.
    """
    probs = _rows(probs, "probs")
    labels = as_labels(labels, shape=probs.shape[:1], classes=probs.shape[1])
    return float(np.mean(np.argmax(probs, axis=-1) == np.asarray(labels)))


def agreement(probs: Any, others: Any) -> float:
    """Share of rows with the same argmax, both (N, K).

    Of a stolen model with its victim this is the *fidelity*; of responses with clean posteriors the *kept-argmax rate*.

    Raises:
        ValueError: for NaN, or two shapes that differ.
    """
    probs, others = _rows(probs, "probs"), _rows(others, "others")
    check_alike(probs, others, ("probs", "others"))
    return accuracy(probs, np.argmax(others, axis=-1))


def _rows(values: Any, name: str) -> np.ndarray:
    """Finite rows (N, K) on the host, in float32 or wider."""
    array = np.asarray(as_array(values, name))
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must be (N, K) with N ≥ 1, not {array.shape}")
    check_finite(array, name)
    return array if array.dtype == np.float64 else array.astype(np.float32)


def summary(values: Any) -> dict[str, float]:
    """Mean, median, 90th and 99th percentile and largest of (N,) values, N ≥ 1."""
    values = np.asarray(as_array(values, "values"), np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values must be (N,) with N ≥ 1, not {values.shape}")
    median, p90, p99 = np.percentile(values, [50, 90, 99])
    return {"mean": values.mean(), "p50": median, "p90": p90, "p99": p99, "max": values.max()}


def entropy(probs: Any) -> np.ndarray:
    """Shannon entropy H(y) = −Σ_k y_k log y_k of each row in nats, with 0 · log 0 = 0.

    Args:
        probs: (N, K) on the simplex.

    Returns:
        (N,) in [0, log K], float64.

    Raises:
        ValueError: for rows off the simplex.
    """
    check_posteriors(probs, "probs")
    probs = np.asarray(probs, np.float64)
    logs = np.log(probs, where=probs > 0, out=np.zeros_like(probs))
    # A float32 posterior that sums to a little more than one would have an entropy below zero.
    return np.clip(0 - np.sum(probs * logs, axis=-1), 0, np.log(probs.shape[-1]))


def distances(probs: Any, answers: Any) -> dict[str, dict[str, float]]:
    """Summaries of ‖y − ỹ‖₁, ‖y − ỹ‖₂ and KL(y‖ỹ) in nats.

    A divergence is infinite where a response denies a class that the posterior allows; so that a record stays a number,
    entries of the response below 1e-7 count as 1e-7.

    Args:
        probs: clean posteriors, (N, K).
        answers: what was returned, (N, K).

    Raises:
        ValueError: for rows off the simplex, responses that are negative or not finite, or two shapes that differ.
    """
    check_alike(probs, answers, ("probs", "answers"))
    check_posteriors(probs, "probs")
    check_posteriors(answers, "answers", normalised=False)
    probs, answers = jnp.asarray(_rows(probs, "probs")), jnp.asarray(_rows(answers, "answers"))
    return {
        "l1": summary(jax.vmap(L1())(probs, answers)),
        "l2": summary(jax.vmap(L2())(probs, answers)),
        "kl": summary(jax.vmap(KL())(probs, jnp.maximum(answers, 1e-7))),
    }


def angular_deviation(
    probs: Any, answers: Any, images: Any, *, logits_fn: LogitsFn, params: Params, batch_size: int = _BATCH
) -> np.ndarray:
    """Angle in degrees between Gᵀy and Gᵀỹ per query, G over the last layer of the given surrogate.

    Args:
        probs: clean posteriors, (N, K).
        answers: what was returned, (N, K).
        images: the queries, (N, H, W, C).
        logits_fn: the surrogate.
        params: its parameters.
        batch_size: images on the device at once.

    Returns:
        (N,) in [0, 180].

    Raises:
        ValueError: as `distances`, and for images that are not as many, or out of range.
    """
    images = as_pixels(images)
    check_alike(probs, answers, ("probs", "answers"))
    if len(images) != len(probs):
        raise ValueError(f"images and probs must be as many: {len(images)} and {len(probs)}")
    check_count("batch_size", batch_size, low=1)
    probs = check_posteriors(probs, "probs")
    answers = check_posteriors(answers, "answers", normalised=False)
    parts = [
        _angles(params, probs[i : i + batch_size], answers[i : i + batch_size], images[i : i + batch_size], logits_fn)
        for i in range(0, len(images), batch_size)
    ]
    return np.concatenate([np.asarray(part) for part in parts])


def _angles_batch(params: Params, probs: Any, answers: Any, images: Any, logits_fn: LogitsFn) -> jax.Array:
    """Angles of one batch."""

    def one(y: jax.Array, z: jax.Array, image: jax.Array) -> jax.Array:
        return objective.deviation(y, z, grams.last_layer(logits_fn, params, image))

    return each(one, None, probs, answers, images)


_angles = jax.jit(_angles_batch, static_argnames="logits_fn")
