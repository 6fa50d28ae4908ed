"""Defensive distillation (Papernot, McDaniel, Wu, Jha, Swami, IEEE S&P 2016): a victim taught by itself, at a high
temperature."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_range
from pp_jax.defenses.cards import Card, Defender, Strength
from pp_jax.defenses.retrained import Retrained, retrained
from pp_jax.training.contracts import Trainable
from pp_jax.training.losses import one_hot
from pp_jax.training.predicting import predict
from pp_jax.types import Params

_TINY = float(np.finfo(np.float32).tiny)


@dataclasses.dataclass(frozen=True)
class TemperedLoss:
    """Cross-entropy at a temperature, L = −(τ/B) Σ_b Σ_k t_bk log softmax(z_b/τ)_k.

    The factor τ keeps the gradient at the logits of one size [assumed: not in the paper].

    Attributes:
        temperature: τ > 0.

    Raises:
        ValueError: for a temperature out of range.
    """

    temperature: float = 20.0

    def __post_init__(self) -> None:
        """Check the temperature."""
        check_range("temperature", self.temperature, low=0, high=1e6, open_low=True)

    def classes(self, outputs: int) -> int:
        """All outputs."""
        return outputs

    def __call__(
        self, network: Trainable, params: Params, images: jax.Array, targets: jax.Array, unlabelled: Any, key: Any
    ) -> tuple[jax.Array, Params]:
        """The loss, and the parameters with their batch statistics."""
        del unlabelled, key
        logits, updated = network.train(params, images)
        logs = jax.nn.log_softmax(logits / self.temperature)
        return -self.temperature * jnp.mean(jnp.sum(one_hot(targets, logits) * logs, axis=1)), updated


class Distillation:
    """A victim trained at a temperature on the softened predictions of one trained so on labels, and asked at τ = 1.

    Its logits are τ times as large as a victim's, so its responses are all but one-hot: what an attacker learns from is
    little more than the hard label, and gradients of the posterior vanish. Made against adversarial examples.
    """

    card = Card("distillation", Strength("temperature", 1.0, 100.0), {"temperature": 20.0}, trained=True)

    @classmethod
    def fitted(cls, defender: Defender, *, temperature: float = 20.0, epochs: int = 2) -> Retrained:
        """Train teacher and victim on the victim's data.

        Args:
            defender: the victim and its data.
            temperature: τ; 1 to 100 are published, 20 the headline for MNIST.
            epochs: passes over the victim's data for each of the two, at least 1.
        """
        images, labels = defender.training_set()
        hot = np.eye(defender.classes, dtype=np.float32)[np.asarray(labels)]
        loss = TemperedLoss(float(temperature))

        def softened() -> np.ndarray:
            teacher = retrained(defender, "distillation teacher", loss, lambda: hot, epochs)
            logs = np.log(np.maximum(predict(teacher.logits_fn, teacher.params, images), _TINY)) / temperature
            return np.asarray(jax.nn.softmax(logs), np.float32)

        return retrained(defender, "distillation", loss, softened, epochs)
