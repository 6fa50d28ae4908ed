"""Recoveries against a gate: tell the queries that were answered truly, and learn from these alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import as_transfer, check_count, check_range
from pp_jax.defenses.gated import GatedResampled
from pp_jax.defenses.resampled import Resampled
from pp_jax.geometry.posteriors import posterior
from pp_jax.recovery.knowledge import Knowledge, keys
from pp_jax.training import fit
from pp_jax.training.losses import supervised_by
from pp_jax.training.predicting import predict
from pp_jax.types import TransferSet

_TINY = float(np.finfo(np.float32).tiny)


@dataclasses.dataclass(frozen=True)
class Consistent:
    """Train, keep the share of the responses that the model fits best, and learn from these.

    What a gate lets pass depends on the image as a network does; what is drawn behind it does not, and is fitted worst.

    Attributes:
        share: of the responses that are kept, in (0, 1].

    Raises:
        ValueError: for a share out of range.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        """Check the share."""
        check_range("share", self.share, low=0, high=1, open_low=True)

    def applies_to(self, defense: Any) -> bool:
        """To every defense."""
        del defense
        return True

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images that are kept, with their responses."""
        own, _ = keys(key)
        transfer = as_transfer(transfer)
        responses = np.asarray(transfer.answers)
        loss = supervised_by(responses)
        params = fit(own, knowledge.network, transfer.images, responses, knowledge.recipe, loss=loss)
        guesses = np.maximum(predict(knowledge.network, params, transfer.images), _TINY)
        misfit = np.sum(responses * (np.log(np.maximum(responses, _TINY)) - np.log(guesses)), axis=1)
        rows = np.sort(np.argsort(misfit, kind="stable")[: max(1, round(self.share * len(misfit)))])
        return TransferSet(transfer.images[rows], responses[rows])


@dataclasses.dataclass(frozen=True)
class CopyTest:
    """Keep the images whose nearly equal copies were answered nearly alike, but not alike: those are answered truly.

    For a group of copies, as `attacks.NearCopies` queries them, d = max |log ỹ_a − log ỹ_b|: large where a response was
    drawn for each copy, 0 where it is stored, and between where it is the victim's.

    Attributes:
        copies: in a group, at least 2.
        least: d below this is stored.
        most: d above this is drawn.

    Raises:
        ValueError: for a number out of range.
    """

    copies: int = 2
    least: float = 1e-6
    most: float = 0.5

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_count("copies", self.copies, low=2)
        check_range("least", self.least, low=0, high=self.most)

    def applies_to(self, defense: Any) -> bool:
        """To gates with resampled posteriors behind them, and to these alone."""
        return isinstance(defense, GatedResampled | Resampled)

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return one image of each group that is kept, with the mean response; all groups where none is kept."""
        del key, knowledge
        transfer = as_transfer(transfer)
        groups = len(transfer.answers) // self.copies
        responses = np.asarray(transfer.answers)[: groups * self.copies].reshape(groups, self.copies, -1)
        logs = np.log(np.maximum(responses, _TINY))
        apart = np.ptp(logs, axis=1).max(axis=1)
        kept = (apart > self.least) & (apart < self.most)
        rows = np.flatnonzero(kept if kept.any() else np.ones(groups, bool))
        return TransferSet(transfer.images[rows * self.copies], responses[rows].mean(axis=1))


@dataclasses.dataclass(frozen=True)
class PassingKnown:
    """Learn from what the defender's own gate let pass: no attacker has it; the bound of all that look for it."""

    def applies_to(self, defense: Any) -> bool:
        """To `GatedResampled` with a gate."""
        return isinstance(defense, GatedResampled) and defense.novelty is not None

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images that passed, with their responses; all where none did."""
        del key
        assert knowledge.victim is not None
        transfer = as_transfer(transfer)
        passed = np.asarray(_passed(knowledge.deployed, *knowledge.victim, transfer.images))
        rows = np.flatnonzero(passed if passed.any() else np.ones(len(passed), bool))
        return TransferSet(transfer.images[rows], np.asarray(transfer.answers)[rows])


def _passed(defense: GatedResampled, network: Any, params: Any, images: Any) -> jax.Array:
    """Which images a gate lets pass, (n,)."""
    gate = defense.novelty
    assert gate is not None

    def one(image: jax.Array) -> jax.Array:
        return gate.level(posterior(network, params, image), image) >= defense.share

    return jax.jit(lambda batch: jax.lax.map(one, batch, batch_size=250))(jnp.asarray(images))
