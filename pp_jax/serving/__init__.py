"""From one posterior to many: the compiled edge around a defense, the black box, and streams of queries."""

from pp_jax.serving.answers import PartlyAnswered
from pp_jax.serving.recorded import NotRecorded, Recorded

__all__ = ["NotRecorded", "PartlyAnswered", "Recorded"]
