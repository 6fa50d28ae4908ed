"""What a defense is worth: the worst case over attackers that know it, at what cost to the defender.

`evaluate` takes values (a victim, defenses, attackers, images) and returns a report; every run is kept as a record.
"""

from pp_jax.evaluation import calibration, metrics, named, sweep
from pp_jax.evaluation.attackers import OWN_IMAGES, QUICK, STANDARD, Attacker, AttackerSet, Learner
from pp_jax.evaluation.entries import Entry
from pp_jax.evaluation.equalizing import Equalized, equalize
from pp_jax.evaluation.evaluating import check, check_budget, evaluate, rehearse
from pp_jax.evaluation.keeping import stolen_model
from pp_jax.evaluation.machines import Machines
from pp_jax.evaluation.report import Report, Row
from pp_jax.evaluation.setups import Run, Setup
from pp_jax.evaluation.strategies import ACTIVE
from pp_jax.evaluation.victims import Images, Victim
from pp_jax.evaluation.weights import Weights

__all__ = [
    "ACTIVE",
    "OWN_IMAGES",
    "QUICK",
    "STANDARD",
    "Attacker",
    "AttackerSet",
    "Entry",
    "Equalized",
    "Images",
    "Learner",
    "Machines",
    "Report",
    "Row",
    "Run",
    "Setup",
    "Victim",
    "Weights",
    "calibration",
    "check",
    "check_budget",
    "equalize",
    "evaluate",
    "metrics",
    "named",
    "rehearse",
    "stolen_model",
    "sweep",
]
