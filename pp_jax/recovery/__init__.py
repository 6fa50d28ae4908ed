"""Recovery: attackers who know that a defense is there turn perturbed responses into better targets."""

from pp_jax.recovery.candidates import CANDIDATES, Candidate
from pp_jax.recovery.ddae import DDAE, PUBLISHED, DDAEImagined, DDAEPlus, ddae, ddae_plus, shadow_posteriors
from pp_jax.recovery.inference import DefenseInference, Inferred, infer_defense, likely_partners
from pp_jax.recovery.inversion import (
    Inversion,
    KnownWeightsInversion,
    invert_known_mad,
    invert_mad,
    preimages,
    purity,
)
from pp_jax.recovery.knowledge import Knowledge
from pp_jax.recovery.neighbours import Neighbours, fit_between, infer_readings, pairs_from_queries
from pp_jax.recovery.partial_bayes import PartialBayes, partial_bayes
from pp_jax.recovery.passing import Consistent, CopyTest, PassingKnown
from pp_jax.recovery.selecting import AgreementFilter, AsGiven, ClassBalanced, HardLabel, MostConfident, NoResponses
from pp_jax.recovery.self_training import PairRelabelling, SelfTraining
from pp_jax.recovery.simple import nudge, smoothing, top1
from pp_jax.recovery.transitions import anchor_transitions, invert_transitions, transitions_from_pairs

__all__ = [
    "CANDIDATES",
    "DDAE",
    "PUBLISHED",
    "AgreementFilter",
    "AsGiven",
    "Candidate",
    "ClassBalanced",
    "Consistent",
    "CopyTest",
    "DDAEImagined",
    "DDAEPlus",
    "DefenseInference",
    "HardLabel",
    "Inferred",
    "Inversion",
    "Knowledge",
    "KnownWeightsInversion",
    "MostConfident",
    "Neighbours",
    "NoResponses",
    "PairRelabelling",
    "PartialBayes",
    "PassingKnown",
    "SelfTraining",
    "anchor_transitions",
    "ddae",
    "ddae_plus",
    "fit_between",
    "infer_defense",
    "infer_readings",
    "invert_known_mad",
    "invert_mad",
    "invert_transitions",
    "likely_partners",
    "nudge",
    "pairs_from_queries",
    "partial_bayes",
    "preimages",
    "purity",
    "shadow_posteriors",
    "smoothing",
    "top1",
    "transitions_from_pairs",
]
