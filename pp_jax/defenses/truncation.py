"""Truncation: responses that say less. Top-k, rounding, a cut-off, and the label alone."""

import dataclasses

import jax
import jax.numpy as jnp

from pp_jax._checks import check_count, check_range
from pp_jax.defenses.cards import Card
from pp_jax.geometry import simplex
from pp_jax.pytree import pytree
from pp_jax.types import Query


def top_1(probs: jax.Array) -> jax.Array:
    """The one-hot at argmax y, first index on ties, (K,)."""
    return jax.nn.one_hot(jnp.argmax(probs), probs.shape[-1], dtype=probs.dtype)


def _renormalise(answer: jax.Array, probs: jax.Array) -> jax.Array:
    """Divide by the sum; where truncation left nothing, answer with the label."""
    total = jnp.sum(answer)
    return jnp.where(total > 0, answer / jnp.where(total > 0, total, 1), top_1(probs))


@pytree
@dataclasses.dataclass(frozen=True)
class TopK:
    """Keep the k largest entries of y, zero the others; ties are kept lowest class first.

    Guarantees: entries ≥ 0; the argmax is kept; with `renormalise`, |Σỹ − 1| ≤ 1e-6.

    Attributes:
        k: how many classes are answered, 1 ≤ k; all of them if k ≥ K; static.
        renormalise: divide by what is left, so that the response is a posterior; the paper's code does not; static.

    Raises:
        ValueError: for k below 1.
    """

    k: int = dataclasses.field(metadata={"static": True})
    renormalise: bool = dataclasses.field(default=True, metadata={"static": True})

    card = Card("top-k")
    random = False
    reads_image = False

    @property
    def normalised(self) -> bool:
        """Whether answers sum to one."""
        return self.renormalise

    def __post_init__(self) -> None:
        """Check k."""
        check_count("k", self.k, low=1)

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        del query
        probs = simplex.working(probs) if self.renormalise else probs
        _, kept = jax.lax.top_k(probs, min(self.k, probs.shape[-1]))
        answer = jnp.where(jnp.zeros(probs.shape, bool).at[kept].set(True), probs, 0)
        return _renormalise(answer, probs) if self.renormalise else answer


@pytree
@dataclasses.dataclass(frozen=True)
class Rounding:
    """Round every entry to d decimals, half to even.

    Guarantees: entries ≥ 0; with `renormalise`, |Σỹ − 1| ≤ 1e-6, and where everything rounds to zero the response is
    the label. Classes that round to the same value tie; the lower index wins `argmax`.

    Attributes:
        decimals: d ≥ 0; static.
        renormalise: divide by the rounded sum; the paper's code does not; static.

    Raises:
        ValueError: for d below 0.
    """

    decimals: int = dataclasses.field(metadata={"static": True})
    renormalise: bool = dataclasses.field(default=True, metadata={"static": True})

    card = Card("rounding")
    random = False
    reads_image = False

    @property
    def normalised(self) -> bool:
        """Whether answers sum to one."""
        return self.renormalise

    def __post_init__(self) -> None:
        """Check the number of decimals."""
        check_count("decimals", self.decimals, low=0)

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        del query
        probs = simplex.working(probs) if self.renormalise else probs
        # Hidden from XLA, which would multiply by 10⁻ᵈ (not a binary number) and so miss the decimal by a rounding.
        scale = jax.lax.optimization_barrier(jnp.asarray(10.0**self.decimals, probs.dtype))
        answer = jnp.round(probs * scale) / scale
        return _renormalise(answer, probs) if self.renormalise else answer


@pytree
@dataclasses.dataclass(frozen=True)
class HighConfidence:
    """Answer the entries of at least a cut-off, zero the others.

    Guarantees: entries ≥ 0; the argmax is kept (with `renormalise`, also where nothing reaches the cut-off: the
    response is the label); with `renormalise`, |Σỹ − 1| ≤ 1e-6.

    | posterior, cut-off | answer |
    |---|---|
    | 0 | y |
    | one-hot | y |
    | uniform, 1/K below the cut-off | the label of the first class, or zeros without `renormalise` |
    | tied entries | are kept or cut together |
    | denormal entries | are cut by every cut-off above them |
    | K = 2 | up to one half both or the top entry, above it the label |

    Attributes:
        cutoff: in [0, 1]; a leaf.
        renormalise: divide by what is left, so that the response is a posterior; the published code does not; static.

    Raises:
        ValueError: for a cut-off out of range.

    Source: "high confidence" postprocessing of the Adversarial Robustness Toolbox.
    """

    cutoff: jax.Array | float
    renormalise: bool = dataclasses.field(default=True, metadata={"static": True})

    card = Card("high-confidence cut-off")
    random = False
    reads_image = False

    @property
    def normalised(self) -> bool:
        """Whether answers sum to one."""
        return self.renormalise

    def __post_init__(self) -> None:
        """Check the cut-off where it is known."""
        check_range("cutoff", self.cutoff, low=0, high=1)

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        del query
        probs = simplex.working(probs) if self.renormalise else probs
        answer = jnp.where(probs < jnp.asarray(self.cutoff, probs.dtype), 0, probs)
        return _renormalise(answer, probs) if self.renormalise else answer


@pytree
@dataclasses.dataclass(frozen=True)
class Top1:
    """Answer with the label alone: the one-hot at argmax y, first index on ties. The argmax is kept."""

    card = Card("top-1")
    random = False
    reads_image = False

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the one-hot of one posterior, (K,)."""
        del query
        return top_1(simplex.working(probs))
