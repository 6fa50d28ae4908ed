"""Nasty Teacher (Ma, Chen, Hu, You, Xie, Wang, "Undistillable", ICLR 2021): right, and misleading in all the rest."""

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
from pp_jax.training.predicting import predict
from pp_jax.types import Params

_TINY = float(np.finfo(np.float32).tiny)


@dataclasses.dataclass(frozen=True)
class NastyLoss:
    """Right on the labels, and far from a network that was trained as usual.

    L = CE(t, softmax(z)) − ω τ² KL(softmax(log a/τ) ‖ softmax(z/τ)),   a the usual network's posterior

    Targets are t and a side by side, (B, 2K).

    Attributes:
        weight: ω ≥ 0 (published: CIFAR-10 0.04, CIFAR-100 0.005).
        temperature: τ > 0 (published: CIFAR-10 4, CIFAR-100 20).

    Raises:
        ValueError: for a number out of range.
    """

    weight: float = 0.04
    temperature: float = 4.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_range("weight", self.weight, low=0, high=1e6)
        check_range("temperature", self.temperature, low=0, high=1e6, open_low=True)

    def __call__(
        self, network: Trainable, params: Params, images: jax.Array, targets: jax.Array, unlabelled: Any, key: Any
    ) -> tuple[jax.Array, Params]:
        """The loss, and the parameters with their batch statistics."""
        del unlabelled, key
        logits, updated = network.train(params, images)
        labels, usual = jnp.split(targets, 2, axis=1)
        right = -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), axis=1))
        tempered = jax.nn.log_softmax(jnp.log(jnp.maximum(usual, _TINY)) / self.temperature)
        apart = jnp.exp(tempered) * (tempered - jax.nn.log_softmax(logits / self.temperature))
        return right - self.weight * self.temperature**2 * jnp.mean(jnp.sum(apart, axis=1)), updated


class NastyTeacher:
    """A victim with the usual top classes whose other probabilities mislead whoever learns from them (`NastyLoss`).

    The usual network is the victim itself. Hard labels are those of a victim: an attacker that trains on argmax loses
    little, which the authors say as well.
    """

    card = Card("Nasty Teacher", Strength("weight", 0.0, 0.2), {"weight": 0.04, "temperature": 4.0}, trained=True)

    @classmethod
    def fitted(
        cls, defender: Defender, *, weight: float = 0.04, temperature: float = 4.0, epochs: int = 2
    ) -> Retrained:
        """Train it on the victim's data.

        Args:
            defender: the victim and its data.
            weight: ω; 0.04 is published for CIFAR-10.
            temperature: τ; 4 is published for CIFAR-10.
            epochs: passes over the victim's data, at least 1.
        """
        images, labels = defender.training_set()

        def targets() -> np.ndarray:
            usual = predict(defender.network, defender.params, images)
            return np.concatenate([np.eye(defender.classes, dtype=np.float32)[np.asarray(labels)], usual], axis=1)

        return retrained(defender, "nasty", NastyLoss(float(weight), float(temperature)), targets, epochs)
