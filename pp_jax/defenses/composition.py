"""Composition of defenses; the empty chain is no defense."""

import dataclasses
from typing import Any

import jax

from pp_jax._checks import check_defense, name_of, normalises, remembers
from pp_jax.defenses.cards import Card, presumed
from pp_jax.pytree import pytree
from pp_jax.types import Defense, Query


@pytree
@dataclasses.dataclass(frozen=True)
class Chain:
    """Defenses applied one after the other, each to the response of the one before; made by `chain`.

    Attributes:
        defenses: the links, first applied first.

    Raises:
        ValueError: for a link that is no defense, or one with a memory.
    """

    defenses: tuple[Defense, ...] = ()

    def __post_init__(self) -> None:
        """Check the links."""
        for link in self.defenses:
            check_defense(link)
            if remembers(link):
                raise ValueError(f"{name_of(link)} has a memory: it must be asked by itself, not in a chain")

    card = Card("chain")

    @property
    def random(self) -> bool:
        """Whether any link depends on the defender's key."""
        return any(link.random for link in self.defenses)

    @property
    def reads_image(self) -> bool:
        """Whether any link looks at the image."""
        return any(link.reads_image for link in self.defenses)

    @property
    def normalised(self) -> bool:
        """Whether the last link's responses sum to one."""
        return not self.defenses or normalises(self.defenses[-1])

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> "Chain | None":
        """The attacker's version of every link; None where one cannot be built."""
        links = [
            presumed(link, jax.random.fold_in(key, n), network, image_shape) for n, link in enumerate(self.defenses)
        ]
        return None if any(link is None for link in links) else Chain(tuple(links))

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the last response, (K,); each link that draws has a key of its own."""
        for index, defense in enumerate(self.defenses):
            own = jax.random.fold_in(query.key, index) if defense.random else None
            probs = defense(probs, query._replace(key=own))
        return probs


def chain(*defenses: Defense) -> Chain:
    """Compose defenses: `chain(a, b)` answers b(a(y)); `chain()` is the identity, the undefended victim."""
    return Chain(defenses)


UNDEFENDED = Chain()
