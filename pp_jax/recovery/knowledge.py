"""What an attacker knows when it turns responses into training targets."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from pp_jax._checks import check_random_key
from pp_jax.types import TransferSet


@dataclasses.dataclass(frozen=True, eq=False)
class Knowledge:
    """The attacker's side of a theft: its own network, and the defense as it takes it to be.

    Attributes:
        network: the attacker's architecture.
        recipe: how it trains.
        presumed: the defense as an attacker who knows its design would build it, without the defender's secrets; None
            where it cannot be built.
        deployed: the defense itself; only attackers that are marked as privileged look at it.
        victim: network and parameters of the victim; likewise.
        probe: responses to a few queries of another pool.
    """

    network: Any
    recipe: Any
    presumed: Any = None
    deployed: Any = None
    victim: tuple[Any, Any] | None = None
    probe: TransferSet | None = None


def keys(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The keys of a recovery: of its own draws, and of the surrogate that the attacker makes for itself."""
    check_random_key(key)
    own, surrogate = jax.random.split(jax.random.fold_in(key, 2))
    return own, surrogate
