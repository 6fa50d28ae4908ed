"""The contracts: what a network, a defense, an oracle, an attacker and a black box promise each other.

Everything is written for one image and one posterior; batches are made by `jax.vmap` at the edges. A contract states
its traits as attributes (`random`, `reads_image`, `keeps_argmax`, …): what holds of an object is read from it, never
guessed from its class or from which other attributes it happens to have. `pp_jax._checks` checks that they are there.
"""

from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax

Params = Any
"""A pytree of arrays: the parameters (and running statistics) of a network."""


class LogitsFn(Protocol):
    """All that the library asks of a network: `logits_fn(params, image) -> (K,)`, hashable, for one image."""

    def __call__(self, params: Params, image: jax.Array, /) -> jax.Array:
        """Return the logits z ∈ R^K of one image; the posterior is softmax(z)."""


class Query(NamedTuple):
    """What a defense may know of the query it responds to.

    Attributes:
        image: the queried image, (H, W, C), uint8 or floating point in [0, 1].
        key: randomness of this query alone, derived from the defender's secret key and the image, so that a repeated
            query has the same response and averaging repeated responses undoes nothing; None for a defense that states
            `random = False`.
    """

    image: jax.Array
    key: Any


class Defense(Protocol):
    """A perturbation of one posterior: a frozen dataclass registered as a pytree (`pp_jax.pytree.pytree`).

    What a sweep varies (ε, β, surrogate weights) is a leaf, what is structure (oracle, distance) is static: a defense
    is an argument of `jit`, another ε does not retrace, and `vmap` maps over the defense itself.

        @pytree
        @dataclasses.dataclass(frozen=True)
        class Mixed:
            weight: jax.Array | float
            random = False
            reads_image = False

            def __call__(self, probs, query):
                return (1 - self.weight) * probs + self.weight / probs.shape[-1]
    """

    @property
    def random(self) -> bool:
        """Whether the response depends on `query.key`: then it is refused without the defender's secret key."""

    @property
    def reads_image(self) -> bool:
        """Whether the response depends on `query.image`: then nobody can reproduce it from the posterior alone."""

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response ỹ ∈ Δ^K for the clean posterior `probs`, both (K,)."""


@runtime_checkable
class TruncatingDefense(Protocol):
    """A defense that may be set to give responses that are no posteriors, as published truncations do.

    One without `normalised` promises responses that sum to one.
    """

    @property
    def normalised(self) -> bool:
        """Whether a response sums to one."""


@runtime_checkable
class SurrogateDefense(Protocol):
    """A defense that judges responses by a network of its own, as MAD and GRAD² do; a dataclass, so that
    `dataclasses.replace` puts other weights in place of the surrogate's.
    """

    @property
    def logits_fn(self) -> LogitsFn:
        """The surrogate's architecture."""

    @property
    def surrogate(self) -> Params:
        """Its parameters."""


State = TypeVar("State")


@runtime_checkable
class StatefulDefense(Protocol[State]):
    """A defense with memory, threaded explicitly: `response, state = defense(probs, query, state)`.

    It is known by its `init`.
    """

    @property
    def random(self) -> bool:
        """Whether the response depends on `query.key`."""

    @property
    def reads_image(self) -> bool:
        """Whether the response depends on `query.image`."""

    def init(self) -> State:
        """Return the memory before the first query."""

    def __call__(self, probs: jax.Array, query: Query, state: State) -> tuple[jax.Array, State]:
        """Return the response (K,) and the memory after it, of the structure, shapes and dtypes of `state`."""


class Oracle(Protocol):
    """Names the point y* of the simplex towards which a posterior is pulled; hashable.

    A function becomes one by stating its traits: `@oracle.declare(keeps_argmax=…, random=…)` of `pp_jax.oracle`.
    """

    @property
    def keeps_argmax(self) -> bool:
        """Whether y* has its first maximum at the top class of y; then a line search towards it keeps that class."""

    @property
    def random(self) -> bool:
        """Whether y* depends on `key`; one that says no is given None."""

    @property
    def vertex(self) -> bool:
        """Whether y* is always a vertex of the simplex, a one-hot."""

    @property
    def takes_step(self) -> bool:
        """Whether it accepts `step`, (K,): how far towards each vertex that vertex is judged (`interpolate_first`)."""

    def __call__(self, probs: jax.Array, gram: Any, *, objective: Any, key: jax.Array | None) -> jax.Array:
        """Return y* ∈ Δ^K, (K,), for a posterior (K,) and a Gram operator."""


class Solver(Protocol):
    """Turns (y, M, ball) into a response: geometry of K-vectors, no network; hashable."""

    @property
    def keeps_argmax(self) -> bool:
        """Whether the top class of y stays on top."""

    @property
    def random(self) -> bool:
        """Whether the response depends on `key`."""

    def check(self, distance: Any) -> None:
        """Raise ValueError for a distance that the solver does not support."""

    def __call__(
        self, probs: jax.Array, gram: Any, *, epsilon: jax.Array, distance: Any, key: jax.Array | None
    ) -> jax.Array:
        """Return ỹ, (K,); `key` is None for a solver that states `random = False`."""


class QueryStrategy(Protocol[State]):
    """How an attacker chooses its queries: asked for images, told the responses; budget and victim stay unseen."""

    def capacity(self, pool_size: int) -> float:
        """Return how many queries a pool of so many images is good for; infinity where they are made, not found."""

    def init(self, key: jax.Array, pool: Any) -> State:
        """Return the state before the first query on `pool`, (N, H, W, C)."""

    def ask(self, state: State) -> Any:
        """Return the next images to query, (B, H, W, C), B ≥ 1."""

    def tell(self, state: State, images: Any, answers: Any) -> State:
        """Return the state after the responses `answers` (b, K) to `images`, the first b ≤ B of those asked for."""


@runtime_checkable
class LearningStrategy(Protocol):
    """A query strategy that trains a substitute, and may be made without what it shares with its attacker.

    It is known by its `completed`; `evaluate` calls it, so that a strategy need not repeat the attacker's network,
    recipe and budget.
    """

    def completed(self, *, network: Any, recipe: Any, budget: int) -> Any:
        """Return the strategy with these for the parts that it lacks; those that it has stay.

        Raises:
            ValueError: for a budget that it cannot split.
        """


class Detector(Protocol[State]):
    """A watcher of one account's query stream, a pytree; a score beyond its threshold is an alarm.

    Pure, so that it is jitted, scanned over queries and mapped over accounts; its memory does not grow.
    """

    def init(self) -> State:
        """Return the memory before the first query."""

    def update(self, state: State, image: jax.Array, probs: jax.Array, features: jax.Array) -> tuple[State, jax.Array]:
        """Return the memory after a query and the score, a scalar; −∞ where it cannot judge yet.

        Args:
            state: the memory before the query.
            image: (H, W, C), uint8 or floating point in [0, 1].
            probs: the clean posterior, (K,).
            features: the input of the victim's last layer, (F,), or of an encoder of the defender's own.
        """


@runtime_checkable
class SummarisingDetector(Protocol[State]):
    """A detector that keeps of a query only what can be computed from that query alone.

    update(s, x, y, h) = fold(s, summarise(x, y, h)), so that `detection.watch` computes the summary of an image once
    for all accounts that ask about it.
    """

    def init(self) -> State:
        """Return the memory before the first query."""

    def update(self, state: State, image: jax.Array, probs: jax.Array, features: jax.Array) -> tuple[State, jax.Array]:
        """Return the memory after a query and the score; see `Detector`. Whoever inherits from this has it."""
        return self.fold(state, self.summarise(image, probs, features))

    def summarise(self, image: jax.Array, probs: jax.Array, features: jax.Array) -> Any:
        """Return what is kept of a query, a pytree of arrays."""

    def fold(self, state: State, summary: Any) -> tuple[State, jax.Array]:
        """Return the memory after a query of this summary, and the score."""


class Audit(NamedTuple):
    """What the defender sees of a black box's responses and the attacker never does.

    Attributes:
        probs: the clean posteriors, (B, K).
    """

    probs: jax.Array


class TransferSet(NamedTuple):
    """What an attacker ends up with: the queried images and the responses.

    Attributes:
        images: (n, H, W, C), n ≤ budget.
        answers: the responses, (n, K).
    """

    images: Any
    answers: Any

    @property
    def queries(self) -> int:
        """The number of queried images."""
        return len(self.answers)


class Recovery(Protocol):
    """What an attacker makes of the responses before it trains: better targets for the same images."""

    def applies_to(self, defense: Defense | StatefulDefense[Any]) -> bool:
        """Return whether it can do anything about this defense; decided by traits and parts, without running it."""

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Any) -> TransferSet:
        """Return the transfer set with recovered targets; its images may be fewer (those that are trusted).

        Args:
            key: randomness of the recovery.
            transfer: images and responses.
            knowledge: what the attacker knows of the victim: the defense that it presumes, networks and data of its
                own.
        """


class Learner(Protocol):
    """How an attacker turns a transfer set into the parameters of a stolen model: one loop, an exchangeable loss."""

    def __call__(self, key: jax.Array, transfer: TransferSet) -> Params:
        """Return the stolen model's parameters; `key` draws initialisation and the order of training."""
