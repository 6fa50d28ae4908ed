"""What every recovery asks of a transfer set."""

from typing import Any

from pp_jax.geometry import simplex
from pp_jax.serving import perturbation


def check_answers(answers: Any, images: Any = None) -> None:
    """Refuse answers that are no posteriors, and images that are not theirs.

    Raises:
        ValueError: naming shape, dtype or how many rows break which requirement.
    """
    simplex.check(answers)
    if len(answers) == 0:
        raise ValueError("answers must be at least one, not 0")
    if images is None:
        return
    perturbation.check_images(images)
    if len(images) != len(answers):
        raise ValueError(f"images and answers must be as many: {len(images)} and {len(answers)}")
