"""Choosing an epoch without looking at a test set."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import as_inputs, as_targets
from pp_jax.training.fitting import State
from pp_jax.training.predicting import predict
from pp_jax.training.step import check_pairs
from pp_jax.types import LogitsFn, Params


class Best:
    """Keeps the parameters of the epoch that predicts held-out targets best; called as `on_epoch` of `fit`.

    Best is the lowest soft cross-entropy −(1/N) Σ_n Σ_k ỹ_nk log F(x_n)_k: all that an attacker can measure, as it
    knows nothing but the responses it was given.

    Args:
        logits_fn: the network that is trained.
        images: held out from training, (N, H, W, C).
        targets: their responses, (N, K), or class indices, (N,).

    Attributes:
        params: of the best epoch so far, or None before the first.
        epoch: its number, from 1.
        loss: its loss in nats.

    Raises:
        ValueError: if images and targets differ in number or there are none; for pixels, labels or soft labels out of
            range, at the first call also for those of another K than the network's.
    """

    def __init__(self, logits_fn: LogitsFn, images: Any, targets: Any) -> None:
        check_pairs(images, targets)
        self._logits_fn, self._images = logits_fn, as_inputs(images)
        self._targets = np.asarray(as_targets(targets, shape=(len(images),), classes=None, normalised=False))
        self.params: Params | None = None
        self.epoch, self.loss = 0, float("inf")

    def __call__(self, state: State, training_loss: float) -> None:
        """Keep this epoch's parameters if they are better; the training loss plays no part."""
        del training_loss
        probs = np.maximum(predict(self._logits_fn, state.params, self._images), np.finfo(np.float32).tiny)
        as_targets(self._targets, shape=(len(probs),), classes=probs.shape[1], normalised=False)
        hot = self._targets if self._targets.ndim == 2 else np.eye(probs.shape[1])[self._targets]
        loss = float(-np.mean(np.sum(hot * np.log(probs), axis=1)))
        if loss < self.loss:
            # The next step of training reuses the buffers of this state.
            self.params, self.epoch, self.loss = jax.tree.map(jnp.copy, state.params), state.epoch, loss
