"""Composition of defenses; the empty chain is no defense."""

import dataclasses

import jax

from pp_jax.pytree import pytree
from pp_jax.types import Defense, Query


@pytree
@dataclasses.dataclass(frozen=True)
class Chain:
    """Defenses applied one after the other, each to the answer of the one before; made by `chain`.

    Attributes:
        defenses: the links, first applied first.
    """

    defenses: tuple[Defense, ...] = ()

    @property
    def random(self) -> bool:
        """Whether any link depends on the owner's key."""
        return any(getattr(link, "random", False) for link in self.defenses)

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the last answer, (K,); each link draws from a key of its own."""
        for index, defense in enumerate(self.defenses):
            probs = defense(probs, query._replace(key=jax.random.fold_in(query.key, index)))
        return probs


def chain(*defenses: Defense) -> Chain:
    """Compose defenses: `chain(a, b)` answers b(a(y)); `chain()` is the identity, the undefended victim."""
    return Chain(defenses)


UNDEFENDED = Chain()
