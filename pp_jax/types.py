"""The contracts: what a network, a defense, an attack and a black box promise each other.

Everything is written for one image and one posterior; batches are made by `jax.vmap` at the edges.
"""

from typing import Any, NamedTuple, Protocol, TypeVar

import jax

Params = Any
"""A pytree of arrays: the parameters (and running statistics) of a network."""


class LogitsFn(Protocol):
    """All that the library asks of a network: `logits_fn(params, image) -> (K,)`, hashable, for one image."""

    def __call__(self, params: Params, image: jax.Array, /) -> jax.Array:
        """Return the logits z ∈ R^K of one image; the posterior is softmax(z)."""


class Query(NamedTuple):
    """What a defense may know of the question it answers.

    Attributes:
        image: the queried image, (H, W, C), uint8 or floating point in [0, 1].
        key: randomness of this query alone, derived from the owner's secret key and the image, so that asking again
            gives the same answer and averaging repeated answers undoes nothing.
    """

    image: jax.Array
    key: jax.Array


class Defense(Protocol):
    """A perturbation of one posterior: a frozen dataclass registered as a pytree.

    What a sweep varies (ε, β, surrogate weights) is a leaf, what is structure (oracle, distance) is static: a defense
    is an argument of `jit`, another ε does not retrace, and `vmap` maps over the defense itself.
    """

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the answer ỹ ∈ Δ^K for the clean posterior `probs`, both (K,)."""


State = TypeVar("State")


class StatefulDefense(Protocol[State]):
    """A defense with memory, threaded explicitly: `answer, state = defense(probs, query, state)`."""

    def init(self) -> State:
        """Return the memory before the first query."""

    def __call__(self, probs: jax.Array, query: Query, state: State) -> tuple[jax.Array, State]:
        """Return the answer (K,) and the memory after it."""


class Attack(Protocol[State]):
    """A query strategy: it is asked for images and told the answers; it never sees the budget or the victim."""

    def capacity(self, pool_size: int) -> float:
        """Return how many questions a pool of so many images is good for; infinity where they are made, not found."""

    def init(self, key: jax.Array, pool: Any) -> State:
        """Return the state before the first query on `pool`, (N, H, W, C)."""

    def ask(self, state: State) -> Any:
        """Return the next images to query, (B, H, W, C), B ≥ 1."""

    def tell(self, state: State, images: Any, answers: Any) -> State:
        """Return the state after `answers` (b, K) to `images`, the first b ≤ B of those asked for."""


class Detector(Protocol[State]):
    """A watcher of one user's query stream; a score beyond its threshold is an alarm."""

    def init(self) -> State:
        """Return the memory before the first query."""

    def update(self, state: State, image: jax.Array, probs: jax.Array) -> tuple[State, jax.Array]:
        """Return the memory after a query and the score, a scalar."""


class Audit(NamedTuple):
    """What the owner of a black box sees of its answers and the attacker never does.

    Attributes:
        probs: the clean posteriors, (B, K).
    """

    probs: jax.Array


class TransferSet(NamedTuple):
    """What an attacker ends up with: the images asked about and the answers given.

    Attributes:
        images: (n, H, W, C), n ≤ budget.
        answers: (n, K).
    """

    images: Any
    answers: Any

    @property
    def queries(self) -> int:
        """The number of images asked about."""
        return len(self.answers)
