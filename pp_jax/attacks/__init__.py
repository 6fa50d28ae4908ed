"""Attacks: query strategies under one ask/tell contract, and the driver that gives them a budget."""

from typing import TYPE_CHECKING, Any

from pp_jax.attacks.adaptive import AdaptiveKnockoff
from pp_jax.attacks.augment import SignedGradient, TargetedPGD
from pp_jax.attacks.driver import collect
from pp_jax.attacks.jacobian import JacobianAugmentation, jb_self, jb_topk, jbda
from pp_jax.attacks.knockoff import Knockoff
from pp_jax.attacks.near_copies import NearCopies
from pp_jax.attacks.online import OnlineTheft, online
from pp_jax.attacks.rewards import Certainty, Diversity, Loss
from pp_jax.attacks.seeking import Seeking
from pp_jax.attacks.spending import QueriesFailed, QueriesStopped

if TYPE_CHECKING:  # what `__getattr__` finds, for type checkers
    from pp_jax.attacks.remote import RemoteAPI, RemoteError

__all__ = [
    "AdaptiveKnockoff",
    "Certainty",
    "Diversity",
    "JacobianAugmentation",
    "Knockoff",
    "Loss",
    "NearCopies",
    "OnlineTheft",
    "QueriesFailed",
    "QueriesStopped",
    "RemoteAPI",
    "RemoteError",
    "Seeking",
    "SignedGradient",
    "TargetedPGD",
    "collect",
    "jb_self",
    "jb_topk",
    "jbda",
    "online",
]


def __getattr__(name: str) -> Any:
    """Import what speaks HTTP when it is first asked for: it needs the extra `serve`."""
    if name not in ("RemoteAPI", "RemoteError"):
        raise AttributeError(f"module 'pp_jax.attacks' has no attribute {name!r}")
    try:
        from pp_jax.attacks import remote
    except ModuleNotFoundError as error:
        raise ImportError(f"a remote API needs {error.name}: pip install 'pp-jax[serve]'") from error
    return getattr(remote, name)
