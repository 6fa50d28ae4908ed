"""Posteriors of any number of images."""

from typing import Any

import jax
import numpy as np

from pp_jax._batching import each
from pp_jax._checks import as_inputs, check_count
from pp_jax.geometry.posteriors import posterior
from pp_jax.types import LogitsFn, Params

_BATCH = 500


def predict(logits_fn: LogitsFn, params: Params, images: Any, *, batch_size: int = _BATCH) -> np.ndarray:
    """Clean posteriors of any number of images, (N, K) on the host, `batch_size` at a time.

    Args:
        logits_fn: the model, `logits_fn(params, image) -> (K,)`.
        params: its parameters.
        images: (N, H, W, C), uint8 or floating point in [0, 1].
        batch_size: images on the device at once.

    Raises:
        ValueError: for no images, or pixels that are neither uint8 nor in [0, 1].
    """
    images = as_inputs(images)
    check_count("batch_size", batch_size, low=1)
    parts = [_predict(params, images[i : i + batch_size], logits_fn) for i in range(0, len(images), batch_size)]
    return np.concatenate([np.asarray(part) for part in parts])


def _predict_batch(params: Params, images: jax.Array, logits_fn: LogitsFn) -> jax.Array:
    """Posteriors of one batch."""
    return each(lambda image: posterior(logits_fn, params, image), None, images)


_predict = jax.jit(_predict_batch, static_argnames="logits_fn")
