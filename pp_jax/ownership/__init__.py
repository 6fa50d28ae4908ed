"""Ownership: marks that a stolen model carries, and claims with p-values; `mark.verify(suspect)`."""

from pp_jax.ownership.boundaries import BlindWalk, MinimalDistances
from pp_jax.ownership.claims import FalseClaims, calibrated, false_claim_rate
from pp_jax.ownership.contracts import Claim, Mark, Model, Suspect
from pp_jax.ownership.dataset import DatasetInference
from pp_jax.ownership.keyed import OtherKeys
from pp_jax.ownership.ledger import Ledger, LedgerMark
from pp_jax.ownership.statistics import binomial_bound, binomial_tail, rank_p_value, welch
from pp_jax.ownership.trigger import TriggerMark, patched

__all__ = [
    "BlindWalk",
    "Claim",
    "DatasetInference",
    "FalseClaims",
    "Ledger",
    "LedgerMark",
    "Mark",
    "MinimalDistances",
    "Model",
    "OtherKeys",
    "Suspect",
    "TriggerMark",
    "binomial_bound",
    "binomial_tail",
    "calibrated",
    "false_claim_rate",
    "patched",
    "rank_p_value",
    "welch",
]
