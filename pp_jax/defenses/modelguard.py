"""ModelGuard (Tang, Dai, Ganju, Guo, Li, USENIX Security 2024): responses that carry little information."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pp_jax._checks import check_count
from pp_jax.defenses.cards import Card, Defender, Strength
from pp_jax.defenses.modelguard_lp import least_log_posterior
from pp_jax.geometry import simplex
from pp_jax.geometry.distance import L1, check_budget
from pp_jax.pytree import pytree
from pp_jax.types import Query

# Of the Dirichlet distribution around y, per class (published), and its least parameter: at 0 it is not defined.
_CONCENTRATION = 10.0
_LEAST_PARAMETER = 1e-4


@pytree
@dataclasses.dataclass(frozen=True)
class ModelGuardW:
    """Answer with the posterior that is least likely to be the clean one, within the budget; top class kept.

    min_ỹ Σ_k ỹ_k log(y_k + 1e-6)   s.t.  ỹ ∈ Δ^K, ‖ỹ − y‖₁ ≤ ε, ỹ_top ≥ ỹ_j + 1e-4

    A linear program, solved exactly without an LP solver (`modelguard_lp.least_log_posterior`).

    Formal guarantees, for every posterior on the simplex, in float32 and wider: entries ≥ 0; |Σỹ − 1| ≤ 1e-6;
    ‖ỹ − y‖₁ ≤ ε + 1e-6; argmax ỹ = argmax y; never NaN; deterministic.

    | posterior, budget | answer |
    |---|---|
    | ε = 0 | y, up to rounding |
    | ε = 2 | the best point of the simplex that keeps the top class by the margin |
    | one-hot | ε/2 of the mass is spread evenly over the others, as they tie |
    | uniform, or the top two tied | the first class is raised by the margin, where ε allows it |
    | top two closer than ε allows to part | the margin shrinks to what the ball holds; the argmax is kept |
    | denormal entries | count as zeros: log(y + 1e-6) |
    | K = 2 | mass min(ε/2, what leaves the margin) moves from the top class to the other |

    Attributes:
        epsilon: L1 budget, 0 ≤ ε ≤ 2 (published: 1); a leaf, an array of budgets to `vmap` over it.

    Raises:
        ValueError: for a budget out of range.
    """

    epsilon: jax.Array | float

    card = Card("ModelGuard-W", Strength("epsilon", 0.0, 2.0), {"epsilon": 1.0})
    random = False
    reads_image = False

    def __post_init__(self) -> None:
        """Check the budget where it is known."""
        check_budget(self.epsilon, L1())

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response ỹ for one posterior, (K,)."""
        del query
        probs = simplex.working(probs)
        epsilon = jnp.asarray(self.epsilon, probs.dtype)
        answer = least_log_posterior(probs, epsilon)
        return simplex.feasible(probs, answer, epsilon=epsilon, distance=L1(), keep_argmax=True)


class Centroids(NamedTuple):
    """What ModelGuard-S has answered so far.

    Attributes:
        points: for each top class its responses in the order of their making, (K, capacity, K).
        counts: how many of them are in use, (K,).
    """

    points: jax.Array
    counts: jax.Array


@pytree
@dataclasses.dataclass(frozen=True)
class ModelGuardS:
    """Answer with the first earlier answer within the budget, so that many posteriors share few responses; stateful.

    ỹ = the first c in the ordered list C_top with ‖c − y‖₁ ≤ ε; where there is none, ỹ is new and appended to C_top:
    of `candidates` draws from Dirichlet(10K·y) the one farthest from y in L1 among those within ε and of the same top
    class, or y itself where there is no such draw.

    Formal guarantees, for every posterior on the simplex, in float32 and wider: entries ≥ 0; |Σỹ − 1| ≤ 1e-6;
    ‖ỹ − y‖₁ ≤ ε + 1e-6; argmax ỹ = argmax y; never NaN; the draws come from the image's key, and an earlier answer
    stays the first within the budget, so that a query repeated gets the same response for ever.

    | posterior, budget | answer |
    |---|---|
    | ε = 0 | y, or the first equal posterior |
    | ε = 2 | the first answer ever given for that top class |
    | one-hot | every draw is nearly the one-hot itself; Dirichlet parameters are at least 1e-4 |
    | uniform, top two tied | draws whose first top class is that of y; y itself if there are none |
    | the list is full | new responses are given but not remembered (assumed: the published list is unbounded) |

    Attributes:
        epsilon: L1 budget, 0 ≤ ε ≤ 2 (published: 1); a leaf.
        num_classes: K; static.
        capacity: answers remembered for each top class, at least 1; static.
        candidates: Dirichlet draws for a new response; 0 appends y itself; static.

    Raises:
        ValueError: for a number out of range; at the first call for a posterior of another number of classes.
    """

    epsilon: jax.Array | float
    num_classes: int = dataclasses.field(metadata={"static": True})
    capacity: int = dataclasses.field(default=64, metadata={"static": True})
    candidates: int = dataclasses.field(default=1000, metadata={"static": True})

    card = Card("ModelGuard-S", Strength("epsilon", 0.0, 2.0), {"epsilon": 1.0})
    random = True
    reads_image = False

    def __post_init__(self) -> None:
        """Check the parameters where they are known."""
        check_budget(self.epsilon, L1())
        check_count("num_classes", self.num_classes, low=2)
        check_count("capacity", self.capacity, low=1)
        check_count("candidates", self.candidates, low=0)

    @classmethod
    def fitted(cls, defender: Defender, *, epsilon: jax.Array | float = 1.0, capacity: int = 1024) -> "ModelGuardS":
        """Make it for a victim.

        Args:
            defender: the victim.
            epsilon: the budget; 1 is published.
            capacity: responses remembered for each class.
        """
        return cls(epsilon, defender.classes, capacity)

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> None:
        """Nothing: responses depend on all queries before, of which an attacker would have to model the order."""
        del key, network, image_shape

    def init(self) -> Centroids:
        """Return empty lists."""
        shape = (self.num_classes, self.capacity, self.num_classes)
        return Centroids(jnp.zeros(shape), jnp.zeros(self.num_classes, jnp.int32))

    def __call__(self, probs: jax.Array, query: Query, state: Centroids) -> tuple[jax.Array, Centroids]:
        """Return the response ỹ for one posterior, (K,), and the lists after it."""
        if probs.shape[-1] != self.num_classes:
            raise ValueError(f"num_classes is {self.num_classes}, but the posterior has {probs.shape[-1]} classes")
        probs = simplex.working(probs)
        dtype = probs.dtype
        # One precision for posterior and memory, so that what is found again is what was given.
        probs = probs.astype(state.points.dtype)
        top = jnp.argmax(probs)
        known, count = state.points[top], state.counts[top]
        within = (jnp.arange(self.capacity) < count) & (L1()(probs[None, :], known) <= self.epsilon)
        found = jnp.any(within)
        answer = jax.lax.cond(found, lambda: known[jnp.argmax(within)], lambda: self.new(query.key, probs))
        append = ~found & (count < self.capacity)
        place = jnp.minimum(count, self.capacity - 1)
        points = state.points.at[top, place].set(jnp.where(append, answer, known[place]))
        return answer.astype(dtype), Centroids(points, state.counts.at[top].add(append.astype(jnp.int32)))

    def new(self, key: jax.Array, probs: jax.Array) -> jax.Array:
        """A new response for y: the farthest of the draws within the budget, or y, (K,)."""
        if self.candidates == 0:
            return probs
        parameters = jnp.maximum(_CONCENTRATION * self.num_classes * probs, _LEAST_PARAMETER)
        draws = jax.random.dirichlet(key, parameters, (self.candidates,), probs.dtype)
        epsilon = jnp.asarray(self.epsilon, probs.dtype)
        spent = L1()(probs[None, :], draws)
        fits = (spent <= epsilon) & (jnp.argmax(draws, axis=-1) == jnp.argmax(probs))
        best = jnp.argmax(jnp.where(fits, spent, -1))
        chosen = jnp.where(jnp.any(fits), draws[best], probs)
        return simplex.feasible(probs, chosen, epsilon=epsilon, distance=L1(), keep_argmax=True)
