"""Attacks: query strategies under one ask/tell contract, and the driver that gives them a budget; `evasion`."""

from typing import TYPE_CHECKING, Any

from pp_jax.attacks import evasion, structural
from pp_jax.attacks.acquisition import DFAL, DFALKCenter, Entropy, KCenter, Known, RareClasses
from pp_jax.attacks.active import ActiveThief, army_of_thieves, swift_thief
from pp_jax.attacks.adaptive import AdaptiveKnockoff
from pp_jax.attacks.augment import RandomTargets, SignedGradient, TargetedPGD
from pp_jax.attacks.dissector import Dissector
from pp_jax.attacks.driver import collect
from pp_jax.attacks.jacobian import JacobianAugmentation, jb_self, jb_topk, jbda, jbda_tr
from pp_jax.attacks.knockoff import Knockoff
from pp_jax.attacks.near_copies import NearCopies
from pp_jax.attacks.online import OnlineTheft, online
from pp_jax.attacks.rewards import Certainty, Diversity, Loss
from pp_jax.attacks.seeking import Seeking
from pp_jax.attacks.spending import QueriesFailed, QueriesStopped

if TYPE_CHECKING:  # what `__getattr__` finds, for type checkers
    from pp_jax.attacks.data_free import (
        DataFree,
        Theft,
        TheftFailed,
        TheftStopped,
        dfme,
        dfms_hl,
        disguide,
        ideal,
        maze,
        steal,
    )
    from pp_jax.attacks.remote import RemoteAPI, RemoteError

__all__ = [
    "DFAL",
    "ActiveThief",
    "AdaptiveKnockoff",
    "Certainty",
    "DFALKCenter",
    "DataFree",
    "Dissector",
    "Diversity",
    "Entropy",
    "JacobianAugmentation",
    "KCenter",
    "Knockoff",
    "Known",
    "Loss",
    "NearCopies",
    "OnlineTheft",
    "QueriesFailed",
    "QueriesStopped",
    "RandomTargets",
    "RareClasses",
    "RemoteAPI",
    "RemoteError",
    "Seeking",
    "SignedGradient",
    "TargetedPGD",
    "Theft",
    "TheftFailed",
    "TheftStopped",
    "army_of_thieves",
    "collect",
    "dfme",
    "dfms_hl",
    "disguide",
    "evasion",
    "ideal",
    "jb_self",
    "jb_topk",
    "jbda",
    "jbda_tr",
    "maze",
    "online",
    "steal",
    "structural",
    "swift_thief",
]


_DATA_FREE = (
    "DataFree",
    "Theft",
    "TheftFailed",
    "TheftStopped",
    "dfme",
    "dfms_hl",
    "disguide",
    "ideal",
    "maze",
    "steal",
)


def __getattr__(name: str) -> Any:
    """Import what needs Flax, or speaks HTTP (the extra `serve`), when it is first asked for."""
    if name in _DATA_FREE:
        from pp_jax.attacks import data_free

        return getattr(data_free, name)
    if name not in ("RemoteAPI", "RemoteError"):
        raise AttributeError(f"module 'pp_jax.attacks' has no attribute {name!r}")
    try:
        from pp_jax.attacks import remote
    except ModuleNotFoundError as error:
        raise ImportError(f"a remote API needs {error.name}: pip install 'pp-jax[serve]'") from error
    return getattr(remote, name)
