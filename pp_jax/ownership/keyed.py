"""Whether a suspect fits the responses of the defender's key better than those of keys that nobody used."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import (
    as_pixels,
    check_count,
    check_defense,
    check_forgetful,
    check_posteriors,
    check_random_key,
    name_of,
)
from pp_jax.ownership.contracts import Claim, Suspect, answers_of, check_significance
from pp_jax.ownership.statistics import rank_p_value
from pp_jax.serving.perturbation import make_query, respond

_ROWS, _UNUSED = 100, 0x0DD0
FLOOR = 1e-6
"""Below this a suspect's probability of a class counts as this: a label-only suspect denies all others."""


@dataclasses.dataclass(frozen=True, eq=False)
class OtherKeys:
    """Any defense that draws with a secret key is a mark: its draws are in the responses, and in who learned from them.

    T(key) = (1/n) Σ_i Σ_k ỹ_ik(key) log f_k(x_i),   f the suspect
    p = (1 + #{j : T(key_j) ≥ T(key)}) / (m + 1),   key_1 … key_m never used

    A model that never saw the responses is independent of the key, so T of the key used and of the others are
    exchangeable: p is exact, whatever the models, the data and the defense, and no independent model is needed. It is
    never below 1/(m + 1). The defense may be `DAWN`, `KeyedSwap`, a chain with one of them, or any other that draws.

    The m + 1 sets of responses stay in memory, 4 (m + 1) n K bytes, so that many suspects can be verified.

    The effect is by how many standard deviations over keys T(key) lies above their mean.

    Attributes:
        images: the client's queries, (n, H, W, C).
        probs: the victim's clean posteriors of these, (n, K).
        defense: as it was deployed, `random` and without memory.
        key: the defender's secret key.
        others: m; `others = 199` reaches p = 0.005.

    Raises:
        ValueError: for a defense that does not draw or remembers, a seed in place of a key, or numbers of rows that
            differ.

    Source: this library; a randomisation test in Fisher's sense.
    """

    images: Any
    probs: Any
    defense: Any
    key: jax.Array
    others: int = 199

    def __post_init__(self) -> None:
        """Check all of it."""
        check_random_key(self.key)
        check_defense(self.defense)
        check_forgetful(self.defense)
        check_count("others", self.others, low=1)
        if not self.defense.random:
            raise ValueError(f"{name_of(self.defense)} draws nothing with the key: chain it with a mark such as DAWN")
        images, probs = as_pixels(self.images), check_posteriors(self.probs, "probs")
        if len(images) != len(probs):
            raise ValueError(f"images and probs must be as many: {len(images)} and {len(probs)}")

    def verify(self, suspect: Suspect, *, significance: float = 0.01) -> Claim:
        """Query the suspect with all of the client's images; see `Mark.verify`."""
        check_significance(
            significance, 1 / (self.others + 1), what=f"{self.others} other keys give", cure="give more in others="
        )
        probs = np.asarray(self.probs)
        logs = np.log(np.maximum(answers_of(suspect, self.images, probs.shape[1]), FLOOR))
        fits = np.tensordot(self._responses, logs, axes=2) / len(probs)
        own, rest = fits[0], fits[1:]
        spread = float(rest.std())
        effect = float(own - rest.mean()) / spread if spread > 0 else 0.0
        return Claim(rank_p_value(float(own), rest), effect, len(probs))

    @functools.cached_property
    def _responses(self) -> np.ndarray:
        """The responses to all images under the key used, then under each of the others, (m + 1, n, K)."""
        # From the defender's own, so that they are others for every defender, and the same whenever it claims.
        unused = jax.random.split(jax.random.fold_in(self.key, _UNUSED), self.others)
        keys = jnp.concatenate([self.key[None], unused])
        parts = [
            np.asarray(_under_keys(self.defense, keys, *map(jnp.asarray, rows)))
            for start in range(0, len(self.probs), _ROWS)
            for rows in [(self.probs[start : start + _ROWS], self.images[start : start + _ROWS])]
        ]
        return np.concatenate(parts, axis=1)


@jax.jit
def _under_keys(defense: Any, keys: jax.Array, probs: jax.Array, images: jax.Array) -> jax.Array:
    """Responses to a batch under each key, (m + 1, B, K); what does not depend on the key is computed once."""

    def under(key: jax.Array) -> jax.Array:
        return jax.vmap(lambda y, x: respond(defense, y, make_query(defense, key, x)))(probs, images)

    return jax.vmap(under)(keys).astype(jnp.float32)
