"""Self-training: the stolen model's own predictions become the next targets."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from pp_jax._checks import as_transfer
from pp_jax.defenses.keyed_swap import KeyedSwap
from pp_jax.recovery.knowledge import Knowledge, keys
from pp_jax.training import fit
from pp_jax.training.losses import supervised_by
from pp_jax.training.predicting import predict
from pp_jax.types import TransferSet


@dataclasses.dataclass(frozen=True)
class SelfTraining:
    """Train, and believe what the model makes of the responses: labels that contradict their neighbours are outvoted.

    t_0 = ỹ,   t_{r+1} ∝ √(ỹ · F(x; fit(t_r)))

    The geometric mean keeps what the response and the model agree on; noise that no image explains fades.

    Attributes:
        rounds: models that are trained before the one that is kept, at least 1.

    Raises:
        ValueError: for fewer than one round.

    Source: after Lee, "Pseudo-label", ICML workshops 2013; the geometric mean is ours.
    """

    rounds: int = 1

    def __post_init__(self) -> None:
        """Check the rounds."""
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}: must be at least 1")

    def applies_to(self, defense: Any) -> bool:
        """To every defense."""
        del defense
        return True

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images with the last targets, (n, K)."""
        own, _ = keys(key)
        transfer = as_transfer(transfer)
        responses = np.asarray(transfer.answers)
        targets = responses
        for number in range(self.rounds):
            guesses = _learned(jax.random.fold_in(own, number), transfer.images, targets, knowledge)
            targets = np.sqrt(np.maximum(responses, 0) * guesses) + 1e-12
            targets /= targets.sum(axis=1, keepdims=True)
        return transfer._replace(answers=targets.astype(responses.dtype))


@dataclasses.dataclass(frozen=True)
class PairRelabelling:
    """Against a keyed swap of known pairs: divide each pair's mass as a model that learned so far divides it.

    What passed as in-distribution was answered truly and tips the balance, which relabelling amplifies.

    Attributes:
        rounds: models that are trained before the one that is kept, at least 1.
    """

    rounds: int = 2

    def applies_to(self, defense: Any) -> bool:
        """To `KeyedSwap`."""
        return isinstance(defense, KeyedSwap)

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images with the last targets, (n, K)."""
        own, _ = keys(key)
        transfer = as_transfer(transfer)
        responses, pairs = np.asarray(transfer.answers), np.asarray(knowledge.presumed.partners)
        apart = pairs != np.arange(len(pairs))
        mass = np.where(apart, responses + responses[:, pairs], responses)
        targets = responses
        for number in range(self.rounds):
            guesses = _learned(jax.random.fold_in(own, number), transfer.images, targets, knowledge)
            within = np.where(apart, guesses / np.maximum(guesses + guesses[:, pairs], 1e-12), 1)
            targets = mass * within
            targets /= targets.sum(axis=1, keepdims=True)
        return transfer._replace(answers=targets)


def _learned(key: jax.Array, images: Any, targets: Any, knowledge: Knowledge) -> np.ndarray:
    """What a model trained on the targets predicts for the same images, (n, K)."""
    params = fit(key, knowledge.network, images, targets, knowledge.recipe, loss=supervised_by(targets))
    return predict(knowledge.network, params, images)
