"""What stealing gained and what defending cost, as numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax import gram as grams
from pp_jax._batching import each
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
        labels: (N,) class indices.
    """
    return float(np.mean(np.argmax(np.asarray(probs), axis=-1) == np.asarray(labels)))


def agreement(probs: Any, others: Any) -> float:
    """Share of rows with the same argmax, both (N, K).

    Of a stolen model with its victim this is the *fidelity*; of responses with clean posteriors the *kept-argmax rate*.
    """
    return accuracy(probs, np.argmax(np.asarray(others), axis=-1))


def summary(values: Any) -> dict[str, float]:
    """Mean, median, 90th and 99th percentile and largest of (N,) values."""
    values = np.asarray(values, np.float64)
    median, p90, p99 = np.percentile(values, [50, 90, 99])
    return {"mean": values.mean(), "p50": median, "p90": p90, "p99": p99, "max": values.max()}


def entropy(probs: Any) -> np.ndarray:
    """Shannon entropy H(y) = −Σ_k y_k log y_k of each row in nats, with 0 · log 0 = 0.

    Args:
        probs: (N, K) on the simplex.

    Returns:
        (N,) in [0, log K], float64.
    """
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
    """
    probs, answers = jnp.asarray(probs), jnp.asarray(answers)
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
    """
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
