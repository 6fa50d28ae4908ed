"""How much of the victim's feature space an account has explored."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_count
from pp_jax.pytree import pytree
from pp_jax.types import SummarisingDetector


class CoverageState(NamedTuple):
    """Which buckets were hit, (2^bits,) bool."""

    hit: jax.Array


@pytree
@dataclasses.dataclass(frozen=True)
class Coverage(SummarisingDetector[CoverageState]):
    """The share of buckets of a locality-sensitive hash that an account's queries have hit.

    bucket(h) = the bits [⟨h − m, a_j⟩ > 0], j = 1 … bits;   score = buckets hit / 2^bits

    with secret hyperplanes a_j through the mean m of benign features. The score grows with the number of queries of any
    account, so the threshold is calibrated for accounts of n queries, and holds for those.

    Memory an account: 2^bits bytes.

    Attributes:
        planes: a_j, (F, bits).
        centre: m, (F,).
        bits: static.

    Raises:
        ValueError: for `bits` below 1.

    Source: Dubiński, Pawlak, Boenisch, Trzciński, Dziedzic, "Bucks for buckets (B4B): active defenses against stealing
        encoders", NeurIPS 2023.
    """

    planes: jax.Array
    centre: jax.Array
    bits: int = dataclasses.field(default=10, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the number of bits."""
        check_count("bits", self.bits, low=1)

    @classmethod
    def fitted(cls, key: jax.Array, features: np.ndarray, *, bits: int = 10) -> "Coverage":
        """Draw hyperplanes through the mean of benign features, (N, F), scaled by their deviations."""
        spread = np.maximum(np.std(features, axis=0), 1e-6)
        planes = jax.random.normal(key, (np.shape(features)[1], bits)) / jnp.asarray(spread, jnp.float32)[:, None]
        return cls(planes, jnp.asarray(np.mean(features, axis=0), jnp.float32), bits)

    def init(self) -> CoverageState:
        """Return the memory before the first query."""
        return CoverageState(jnp.zeros(2**self.bits, bool))

    def summarise(self, image: jax.Array, probs: jax.Array, features: jax.Array) -> jax.Array:
        """Return the number of the bucket."""
        del image, probs
        signs = (features.astype(jnp.float32) - self.centre) @ self.planes > 0
        return jnp.sum(signs * 2 ** jnp.arange(self.bits)).astype(jnp.int32)

    def fold(self, state: CoverageState, summary: jax.Array) -> tuple[CoverageState, jax.Array]:
        """Return the memory after a query of this bucket, and the share of buckets hit."""
        hit = state.hit.at[summary].set(True)
        return CoverageState(hit), jnp.mean(hit, dtype=jnp.float32)
