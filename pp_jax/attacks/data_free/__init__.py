"""Data-free stealing: queries are made by a generator that learns along with the clone, no image is needed."""

from pp_jax.attacks.data_free.descent import Descent
from pp_jax.attacks.data_free.guides import Guide, ZerothOrder
from pp_jax.attacks.data_free.losses import Difference, Divergence, HardLabel, LogitDistance
from pp_jax.attacks.data_free.method import DataFree, DataFreeState
from pp_jax.attacks.data_free.published import dfme, dfms_hl, disguide, ideal, maze
from pp_jax.attacks.data_free.shapes import random_shapes
from pp_jax.attacks.data_free.stealing import Theft, TheftFailed, TheftStopped, steal
from pp_jax.attacks.data_free.through_clones import Adversarial, Disagreement, Synthesis
from pp_jax.attacks.data_free.tuned import for_small_budgets

__all__ = [
    "Adversarial",
    "DataFree",
    "DataFreeState",
    "Descent",
    "Difference",
    "Disagreement",
    "Divergence",
    "Guide",
    "HardLabel",
    "LogitDistance",
    "Synthesis",
    "Theft",
    "TheftFailed",
    "TheftStopped",
    "ZerothOrder",
    "dfme",
    "dfms_hl",
    "disguide",
    "for_small_budgets",
    "ideal",
    "maze",
    "random_shapes",
    "steal",
]
