"""APMSA (TIFS 2023): an adversarial change of the input, so that the responses of one class look alike."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pp_jax._checks import check_classes, check_count, check_range
from pp_jax.defenses.cards import Card, Defender, Strength
from pp_jax.defenses.resampled import Resampled
from pp_jax.geometry import simplex
from pp_jax.geometry.posteriors import log_posterior
from pp_jax.pytree import pytree
from pp_jax.types import LogitsFn, Params, Query


@pytree
@dataclasses.dataclass(frozen=True)
class APMSA:
    """Respond to a changed image, whose posterior is as near to its class's template as a small change makes it.

    x_{s+1} = clip(x_s − (2ρ/S) sign ∇_x KL(t_c ‖ f(x_s)), x ± ρ, [0, 1]),   c = argmax y, t_c the template of class c
    ỹ = f(x_s), s the step of the smallest KL among those with argmax f(x_s) = c

    The top class is kept; what tells two queries of one class apart is reduced. The form of the objective is assumed:
    the paper's goal is stated in secondary sources only.

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; never NaN for finite logits; argmax ỹ = argmax y; deterministic. With
    ρ = 0 the response is y, as it is wherever no step keeps the class. It costs S forward and backward passes.

    | posterior | response |
    |---|---|
    | one-hot, denormal | the first steps have no gradient: near y |
    | uniform, tied | moves towards the template of the first maximum |
    | K = 2 | as others |

    Attributes:
        logits_fn: the victim, `logits_fn(params, image) -> (K,)`; static.
        params: its parameters.
        templates: t, rows on the simplex, (K, K).
        radius: ρ ≥ 0, of L∞ in pixels of [0, 1]; a leaf.
        steps: S; static.

    Raises:
        ValueError: for a number out of range; at the first call for another number of classes.

    Source: "APMSA: adversarial perturbation against model stealing attacks", IEEE TIFS 18, 2023.
    """

    logits_fn: LogitsFn = dataclasses.field(metadata={"static": True})
    params: Params
    templates: jax.Array
    radius: jax.Array | float = 0.1
    steps: int = dataclasses.field(default=5, metadata={"static": True})

    card = Card("APMSA", Strength("radius", 0.0, 0.3))
    random = False
    reads_image = True

    def __post_init__(self) -> None:
        """Check the parameters where they are known."""
        check_range("radius", self.radius, low=0, high=1)
        check_count("steps", self.steps, low=1)

    @classmethod
    def fitted(cls, defender: Defender, *, radius: jax.Array | float = 0.1, steps: int = 5) -> APMSA:
        """Make it for a victim, with its mean posteriors on its training images as templates.

        Args:
            defender: the victim and its data.
            radius: ρ.
            steps: S.
        """
        templates = jnp.mean(Resampled.fitted(defender).stored, axis=1)
        return cls(defender.network, defender.params, templates, radius, steps)

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> APMSA:
        """The same rule with the attacker's own network, untrained, in the victim's place."""
        return dataclasses.replace(self, logits_fn=network, params=network.init(key, image_shape))

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        probs = simplex.working(probs)
        check_classes(self.templates.shape[-1], len(probs))
        top = simplex.first_top(probs)
        template = self.templates[top].astype(probs.dtype)
        scale = 255 if query.image.dtype == jnp.uint8 else 1
        start = query.image.astype(jnp.float32) / scale
        low, high = jnp.maximum(start - self.radius, 0), jnp.minimum(start + self.radius, 1)

        def misses(image: jax.Array) -> tuple[jax.Array, jax.Array]:
            logs = log_posterior(self.logits_fn, self.params, image)
            check_classes(logs.shape[-1], len(probs))
            return -jnp.sum(template * logs), jnp.exp(logs)

        def step(carry: Any, _: None) -> tuple[Any, None]:
            image, least, best = carry
            (miss, found), slope = jax.value_and_grad(misses, has_aux=True)(image)
            better = (miss < least) & (simplex.first_top(found) == top)
            moved = jnp.clip(image - 2 * self.radius / self.steps * jnp.sign(slope), low, high)
            return (moved, jnp.where(better, miss, least), jnp.where(better, found.astype(probs.dtype), best)), None

        none = jnp.asarray(jnp.inf, jnp.float32)
        (_, _, best), _ = jax.lax.scan(step, (start, none, probs), length=self.steps + 1)
        return simplex.keep_top(simplex.working(jnp.where(jnp.asarray(self.radius) > 0, best, probs)), top)
