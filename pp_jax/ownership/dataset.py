"""Dataset inference: a model that learned from the defender's training images keeps them farther from its boundaries.

Maini, Yaghini, Papernot: "Dataset inference: ownership resolution in machine learning", ICLR 2021.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from pp_jax._checks import as_pixels, check_range
from pp_jax.ownership.contracts import Claim, Suspect, check_significance
from pp_jax.ownership.statistics import welch

LEAST = 10
"""Samples of each kind that a claim needs, at least; the paper finds 10 to 50 enough."""

Probe = Callable[[Suspect, Any, int], np.ndarray]
"""Distances of images to a suspect's boundaries, (N, F): `MinimalDistances` or `BlindWalk`."""


@dataclasses.dataclass(frozen=True, eq=False)
class DatasetInference:
    """Whether a suspect treats private training images otherwise than new ones, as the victim does.

    g(x) = w · (distances(x) − μ)/σ;   Welch's one-sided t-test of g over members against g over others

    w is a ridge regression of +1 (member) and −1 (new) on the *victim's* distances; the paper's is a network of two
    layers. Nothing is marked and nothing is lost: the evidence is the victim's own overfitting, and where there is
    little of it there is little evidence. A model that was trained independently on the same images is claimed as well:
    that is what is claimed, that the *data* were used.

    The effect is the difference of the mean g.

    Attributes:
        members: training images of the victim that the regression did not see, (n, H, W, C).
        others: images of the same distribution that it was not trained on, (m, H, W, C).
        probe: how distances are measured.
        weights: w, (F,).
        mean: μ, (F,).
        deviation: σ, (F,).
        classes: K.
    """

    members: Any
    others: Any
    probe: Probe
    weights: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    classes: int

    @classmethod
    def fitted(
        cls, victim: Suspect, members: Any, others: Any, probe: Probe, *, classes: int, samples: int = 50,
        ridge: float = 0.1,
    ) -> DatasetInference:  # fmt: skip
        """Learn w from the victim; the last `samples` of each kind are kept for claims.

        Args:
            victim: whose training images these are; `Model(network, params)` where the probe needs weights.
            members: of its training images, (n, H, W, C), n > samples, in random order.
            others: that it was not trained on, (m, H, W, C), m > samples, in random order.
            probe: how distances are measured.
            classes: K.
            samples: of each kind that a claim is made with, at least 10.
            ridge: penalty of the regression, in units of the number of images; above 0.

        Raises:
            ValueError: for too few images, or a penalty out of range.
        """
        members, others = np.asarray(as_pixels(members, "members")), np.asarray(as_pixels(others, "others"))
        check_range("ridge", ridge, low=0, high=float("inf"), open_low=True)
        least = min(len(members), len(others))
        if samples < LEAST or least < samples + 2:
            raise ValueError(
                f"{least} images of a kind with samples={samples}: must be at least {LEAST} samples, and 2 more images "
                "for the regression"
            )
        known = [probe(victim, images[:-samples], classes) for images in (members, others)]
        rows = np.concatenate(known).astype(np.float64)
        signs = np.concatenate([np.full(len(part), sign) for part, sign in zip(known, (1.0, -1.0), strict=True)])
        mean, deviation = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-9)
        scaled = (rows - mean) / deviation
        # Kinds count alike, however many there are of each.
        share = np.where(signs > 0, 0.5 / len(known[0]), 0.5 / len(known[1]))
        gram = (scaled * share[:, None]).T @ scaled + ridge * np.eye(scaled.shape[1])
        weights = np.linalg.solve(gram, scaled.T @ (share * signs))
        return cls(members[-samples:], others[-samples:], probe, weights, mean, deviation, classes)

    def verify(self, suspect: Suspect, *, significance: float = 0.01) -> Claim:
        """Query the suspect around all samples; see `Mark.verify`."""
        count = min(len(self.members), len(self.others))
        smallest = 0.0 if count >= LEAST else 1.0
        check_significance(
            significance, smallest, what=f"{count} samples of a kind give", cure=f"give at least {LEAST}"
        )
        own, rest = (self._scores(suspect, images) for images in (self.members, self.others))
        _, _, p_value = welch(own, rest)
        return Claim(p_value, float(own.mean() - rest.mean()), count)

    def _scores(self, suspect: Suspect, images: Any) -> np.ndarray:
        """g of images, (N,)."""
        return (self.probe(suspect, images, self.classes) - self.mean) / self.deviation @ self.weights
