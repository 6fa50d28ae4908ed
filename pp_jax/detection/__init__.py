"""Detectors watch one account's queries and score how much they look like an attack; policies act on scores."""

from pp_jax.detection.accusing import accused
from pp_jax.detection.coverage import Coverage
from pp_jax.detection.dadd import Dadd
from pp_jax.detection.hoda import Hoda
from pp_jax.detection.labels import LabelMMD
from pp_jax.detection.policy import Blocked, Policy, ProofOfWork, Throttled
from pp_jax.detection.prada import Prada
from pp_jax.detection.scores import Confidence, KolmogorovSmirnov, MeanPValue, PValue
from pp_jax.detection.shapiro import shapiro
from pp_jax.detection.similarity import Similarity
from pp_jax.detection.views import Features, Pixels, Projected
from pp_jax.detection.warning import ExtractionWarning
from pp_jax.detection.watching import Observed, first_alarm, memory, observe, summaries, threshold, watch

__all__ = [
    "Blocked",
    "Confidence",
    "Coverage",
    "Dadd",
    "ExtractionWarning",
    "Features",
    "Hoda",
    "KolmogorovSmirnov",
    "LabelMMD",
    "MeanPValue",
    "Observed",
    "PValue",
    "Pixels",
    "Policy",
    "Prada",
    "Projected",
    "ProofOfWork",
    "Similarity",
    "Throttled",
    "accused",
    "first_alarm",
    "memory",
    "observe",
    "shapiro",
    "summaries",
    "threshold",
    "watch",
]
