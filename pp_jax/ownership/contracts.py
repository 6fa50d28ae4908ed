"""The contract of a mark: it is asked whether a suspect model carries it, and answers with a p-value and an effect."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from pp_jax._checks import check_posteriors
from pp_jax.serving.answers import shaped
from pp_jax.training.predicting import predict
from pp_jax.types import LogitsFn, Params

_BATCH = 500

Suspect = Callable[[Any], Any]
"""A model that somebody offers: images (B, H, W, C) in, posteriors (B, K) out."""


class Claim(NamedTuple):
    """What a suspect model says of a mark.

    Attributes:
        p_value: how often a model that never saw the mark would carry it as much as the suspect does, or more.
        effect: how much it carries it, in the unit of the mark; larger is more.
        samples: how many independent pieces of evidence the p-value is made of.
    """

    p_value: float
    effect: float
    samples: int

    def holds(self, significance: float) -> bool:
        """Whether ownership may be claimed at a significance: the p-value is not above it."""
        return self.p_value <= significance


class Mark(Protocol):
    """Evidence that a defender keeps, with which a suspect model is verified; a value.

    claim = mark.verify(suspect)
    claim.p_value, claim.effect, claim.holds(0.01)
    """

    def verify(self, suspect: Suspect, *, significance: float = 0.01) -> Claim:
        """Query the suspect and return the claim.

        Args:
            suspect: the model; `Model(network, params)` where its weights are known.
            significance: α that the claim will be held to; evidence that could never reach it is refused.

        Raises:
            ValueError: for evidence that is too little for α, before anything is queried; for a suspect that answers
                with labels or another number of classes.
        """


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A suspect whose weights are known; called, it answers with posteriors.

    Attributes:
        network: `network(params, image) -> (K,)`.
        params: its parameters.
    """

    network: LogitsFn
    params: Params

    def __call__(self, images: Any) -> np.ndarray:
        """Posteriors (B, K) of images (B, H, W, C)."""
        return predict(self.network, self.params, images)


def answers_of(suspect: Suspect, images: Any, classes: int) -> np.ndarray:
    """The suspect's answers to images, (N, K), float64 on the host, asked in batches.

    Raises:
        ValueError: for labels, another number of classes, or rows that are no probabilities.
    """
    parts = []
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        found = shaped(suspect(batch), len(batch))
        if found.ndim == 1:
            raise ValueError(
                f"the suspect answers with labels {found.shape}: must be posteriors (B, {classes}); write "
                f"lambda images: np.eye({classes})[suspect(images)]"
            )
        if found.shape[1] != classes:
            raise ValueError(f"the suspect has {found.shape[1]} classes: must be {classes}, as the victim has")
        parts.append(check_posteriors(found.astype(np.float32), "answers of the suspect", normalised=False))
    return np.concatenate(parts).astype(np.float64)


def check_significance(significance: float, smallest: float, *, what: str, cure: str) -> None:
    """Refuse an α outside (0, 1), and evidence whose smallest possible p-value is above it.

    Raises:
        ValueError: naming the smallest p-value, and what to do.
    """
    if not 0 < significance < 1:
        raise ValueError(f"significance must be above 0 and below 1, not {significance:g}")
    if smallest > significance:
        raise ValueError(f"{what}: p-values of at least {smallest:.2g}, must reach {significance:g}; {cure}")
