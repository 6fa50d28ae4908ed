"""Distillation at a high temperature, where the improbable classes teach as much as the probable ones."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pp_jax.training.contracts import Trainable
from pp_jax.training.losses import one_hot
from pp_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Tempered:
    """Kullback–Leibler divergence at a temperature, of pseudo-logits log ỹ: L = T² KL(softmax(log ỹ/T) ‖ softmax(z/T)).

    At T = 1 its gradient is that of soft cross-entropy. As T grows it becomes ½ (1/K) ‖c(log ỹ) − c(z)‖², c the
    centring over classes: all log-probabilities count alike, small ones too. A response of few entries (top-k,
    rounding, labels) has little to say there, and one whose small entries are poisoned says the wrong thing.

    Attributes:
        temperature: T > 0 (published: 100).
        floor: least ỹ that counts, in (0, 1): a zero stands for no logit.

    Raises:
        ValueError: for a number out of range.

    Source: Efficient and Effective Model Extraction (E3), ICASSP 2025, arXiv 2409.14122; the floor is assumed.
    """

    temperature: float = 100.0
    floor: float = 1e-6

    # Unlabelled images are not looked at.
    reads_unlabelled = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}: must be above 0 and finite")
        if not 0 < self.floor < 1:
            raise ValueError(f"floor is {self.floor}: must be above 0 and below 1")

    def classes(self, outputs: int) -> int:
        """All outputs."""
        return outputs

    def __call__(
        self, network: Trainable, params: Params, images: jax.Array, targets: jax.Array, unlabelled: Any, key: Any
    ) -> tuple[jax.Array, Params]:
        """The loss, and the parameters with updated batch statistics."""
        del unlabelled, key
        logits, updated = network.train(params, images)
        wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        wanted = jnp.log(jnp.maximum(one_hot(targets, wide), self.floor)) / self.temperature
        wanted, found = jax.nn.log_softmax(wanted), jax.nn.log_softmax(wide / self.temperature)
        apart = jnp.sum(jnp.exp(wanted) * (wanted - found), axis=1)
        return self.temperature**2 * jnp.mean(apart), updated
