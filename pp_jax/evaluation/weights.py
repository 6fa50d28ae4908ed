"""Imported weights that an attacker starts from, as a value."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from pp_jax.results.identity import tree_digest
from pp_jax.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """Parameters of the attacker's architecture, trained elsewhere; equal to others of the same content.

    Attributes:
        params: as the network's `init` returns them, such as `pp_jax.results.checkpoints.load` or `python -m
            pp_jax.models import-torch` gives.
        name: in records.
        partial: whether leaves of another shape than the network's, as the head of other classes has, start fresh.
    """

    params: Params
    name: str = "weights"
    partial: bool = False

    def __eq__(self, other: object) -> bool:
        """By content."""
        return isinstance(other, Weights) and self.identity() == other.identity()

    def __hash__(self) -> int:
        """By content."""
        return hash((self.digest, self.name, self.partial))

    @functools.cached_property
    def digest(self) -> str:
        """Of structure and arrays."""
        return tree_digest(self.params)

    def identity(self) -> dict[str, Any]:
        """What a record tells of them."""
        return {"name": self.name, "digest": self.digest, "partial": self.partial}

    def check(self, network: Any, image_shape: tuple[int, ...]) -> None:
        """Refuse weights that are not this network's.

        Raises:
            ValueError: naming the first leaf that does not fit, or that none does.
        """
        wanted = jax.eval_shape(lambda: network.init(jax.random.key(0), tuple(image_shape)))
        own, needed = _shapes(self.params), _shapes(wanted)
        wrong = [place for place, shape in needed.items() if own.get(place) != shape]
        if self.partial and len(wrong) == len(needed):
            raise ValueError(
                f"weights {self.name}: no leaf fits the attacker's network; give those of its architecture"
            )
        if wrong and not self.partial:
            place = wrong[0]
            raise ValueError(
                f"weights {self.name}: {place} is {own.get(place, 'missing')}, the attacker's network needs "
                f"{needed[place]}; give others, or Weights(…, partial=True) to start that leaf fresh"
            )

    def start(self, key: jax.Array, network: Any, image_shape: tuple[int, ...]) -> Params:
        """The network's parameters: these, and fresh ones where `partial` leaves something open.

        Raises:
            ValueError: as `check`.
        """
        self.check(network, image_shape)
        fresh, own = network.init(key, tuple(image_shape)), dict(_leaves(self.params))

        def chosen(place: Any, leaf: Any) -> Any:
            given = own.get(jax.tree_util.keystr(place))
            return leaf if given is None or np.shape(given) != np.shape(leaf) else given

        return jax.tree_util.tree_map_with_path(chosen, fresh)


def _leaves(params: Params) -> list[tuple[str, Any]]:
    """Leaves by their place."""
    return [(jax.tree_util.keystr(place), leaf) for place, leaf in jax.tree_util.tree_flatten_with_path(params)[0]]


def _shapes(params: Params) -> dict[str, tuple[int, ...]]:
    """Shapes by place."""
    return {place: tuple(np.shape(leaf)) for place, leaf in _leaves(params)}
