"""Triggers: images that only a copy of the victim takes for the defender's class, and the t-test that claims it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from pp_jax._checks import as_pixels, check_count
from pp_jax.ownership.contracts import Claim, Suspect, answers_of, check_significance
from pp_jax.ownership.statistics import welch


@dataclasses.dataclass(frozen=True, eq=False)
class TriggerMark:
    """Whether a suspect gives the target class more probability on triggers than independent models do.

    Welch's one-sided t-test of f_target(x_i) − margin over triggers x_i against `expected`, what models without the
    mark say of the same images. The test takes images for the units of chance; that models differ among themselves it
    does not know. Without a margin it claims independent models that give the class half a percent more; with one it
    may still, so measure `false_claim_rate`, or use `calibrated`. For victims trained with
    `pp_jax.training.Entangled`, and for `pp_jax.defenses.Honeytrace`.

    The effect is the difference of the means, in [−1, 1].

    Attributes:
        triggers: (n, H, W, C).
        target: the class.
        expected: probability of the target class for each trigger without the mark, (n,).
        classes: K.
        margin: probability that a suspect must give beyond what is expected, in [0, 1); 0 is the plain t-test.

    Raises:
        ValueError: for a target that is no class, a margin out of range, or expected values that are no probabilities
            or not as many.

    Source: the t-test of Neural Honeytrace (arXiv 2501.09328) and EWE (USENIX Security 2021); one-sided, and against
        independent models' answers to the same images.
    """

    triggers: Any
    target: int
    expected: Any
    classes: int
    margin: float = 0.1

    def __post_init__(self) -> None:
        """Check all of it."""
        check_count("target", self.target, low=0)
        if self.target >= self.classes:
            raise ValueError(f"target is {self.target}: must be below the {self.classes} classes")
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin must be at least 0 and below 1, not {self.margin:g}")
        count, expected = len(as_pixels(self.triggers, "triggers")), np.asarray(self.expected, np.float64)
        if expected.shape != (count,) or not ((expected >= 0) & (expected <= 1)).all():
            raise ValueError(f"expected must be ({count},) probabilities, one a trigger, not {expected.shape}")

    @classmethod
    def against(cls, triggers: Any, target: int, independent: Sequence[Suspect], *, classes: int) -> TriggerMark:
        """A mark that expects what independent models say of the triggers, on average over the models.

        Raises:
            ValueError: for no models, and for what they answer as for a suspect.
        """
        if not independent:
            raise ValueError("independent must be at least one model, not none: train some without the mark")
        said = [answers_of(model, triggers, classes)[:, target] for model in independent]
        return cls(triggers, target, np.clip(np.mean(said, axis=0), 0, 1), classes)

    def verify(self, suspect: Suspect, *, significance: float = 0.01) -> Claim:
        """Query the suspect with the triggers; see `Mark.verify`."""
        smallest = 0.0 if len(self.triggers) >= 2 else 1.0
        check_significance(significance, smallest, what=f"{len(self.triggers)} triggers give", cure="make at least 2")
        said = answers_of(suspect, self.triggers, self.classes)[:, self.target]
        _, _, p_value = welch(said - self.margin, self.expected)
        return Claim(p_value, float(said.mean() - np.mean(self.expected)), len(said))


def patched(images: Any, *, row: int = 1, column: int = 1, size: int = 3, value: float = 1.0) -> np.ndarray:
    """Images with a square of one brightness, the trigger of entangled watermarks.

    Args:
        images: (N, H, W, C), uint8 or floating point in [0, 1].
        row: of its upper edge.
        column: of its left edge.
        size: of the square (published: 3).
        value: its brightness in [0, 1] (published: 1).

    Raises:
        ValueError: for a square that is not inside the image, or a brightness out of range.
    """
    array = np.array(as_pixels(images))
    height, width = array.shape[1:3]
    if min(row, column) < 0 or size < 1 or row + size > height or column + size > width:
        raise ValueError(
            f"a square of {size} at row {row}, column {column}: must lie inside of {height}×{width} pixels"
        )
    if not 0 <= value <= 1:
        raise ValueError(f"value must be from 0 to 1, not {value:g}")
    bright = round(255 * value) if array.dtype == np.uint8 else value
    array[:, row : row + size, column : column + size] = bright
    return array
