"""GRAD², gradient redirection (Mazeika, Li, Forsyth: "How to steer your adversary", ICML 2022)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pp_jax._checks import check_classes
from pp_jax.defenses.cards import Card, Defender, Strength
from pp_jax.defenses.surrogates import Surrogate
from pp_jax.geometry import simplex
from pp_jax.geometry.distance import L1, check_budget
from pp_jax.geometry.posteriors import log_posterior
from pp_jax.gram.jacobian import select, trainable
from pp_jax.pytree import pytree
from pp_jax.solvers.lp import linear_max_l1, linear_max_l1_top
from pp_jax.types import LogitsFn, Params, Query

DISTILLED = Surrogate("distilled", epochs=10)
"""The published surrogate."""


def _name(parameters: Mapping[str, Any]) -> str:
    """Its label."""
    return "GRAD²-argmax" if parameters.get("keep_argmax") else "GRAD²"


@pytree
@dataclasses.dataclass(frozen=True)
class GRAD2:
    """Poison a posterior so that the attacker's update, seen by a surrogate, goes far in a chosen direction.

    max_ỹ ⟨Gᵀỹ, z⟩ = ⟨ỹ, c⟩   s.t.  ỹ ∈ Δ^K, ‖ỹ − y‖₁ ≤ ε,   G = ∇_w log F(x; w),  c = Gz ∈ R^K

    Gᵀỹ is the step that gradient descent on the response's cross-entropy takes. c is one forward-mode derivative of the
    surrogate's log-posterior along z, no Jacobian; the linear program is solved exactly by sorting, O(K log K).

    Formal guarantees, for every posterior on the simplex, in float32 and wider: entries ≥ 0; |Σỹ − 1| ≤ 1e-6;
    ‖ỹ − y‖₁ ≤ ε + 1e-6; with `keep_argmax`, argmax ỹ = argmax y; never NaN for finite c; deterministic.

    | posterior, budget | answer |
    |---|---|
    | ε = 0 | y, up to rounding |
    | ε = 2 | the one-hot at argmax c; with `keep_argmax`, the best point of the simplex that keeps the top class |
    | one-hot | a mass of ε/2 moves to argmax c; at ε = 1 two classes tie, and the lower index wins `argmax` |
    | uniform, tied | mass leaves the classes in ascending order of c, the lower index first where c ties |
    | denormal entries | are moved like others; what underflows is lost to rounding |
    | K = 2 | the mass min(1 − y_k, ε/2) moves to k = argmax c |
    | c tied (Gz = 0) | as any feasible answer is optimal: the mass moves to class 0 |

    Attributes:
        logits_fn: the surrogate, `logits_fn(surrogate, image) -> (K,)`; static.
        surrogate: its parameters (published: distilled from the victim for 10 epochs).
        epsilon: L1 budget, 0 ≤ ε ≤ 2; a leaf, an array of budgets to `vmap` over it.
        direction: z, of the structure of `surrogate`: `grad2.all_ones`, `grad2.watermark` or any other (running
            statistics play no part). None: each query's own −Gᵀy, the minimum inner product; the same answers as
            `MAD` with the solver `MinInner` and an all-parameter Gram matrix, from one vjp and one jvp.
        keep_argmax: keep the top class of y on top (not in the published method); static.

    Raises:
        ValueError: for a budget out of range; at the first call for a direction of another structure than the
            surrogate's, or a surrogate with another number of classes.
    """

    logits_fn: LogitsFn = dataclasses.field(metadata={"static": True})
    surrogate: Params
    epsilon: jax.Array | float
    direction: Params | None = None
    keep_argmax: bool = dataclasses.field(default=False, metadata={"static": True})

    card = Card(_name, Strength("epsilon", 0.0, 2.0), {"epsilon": 0.5})
    random = False
    reads_image = True

    def __post_init__(self) -> None:
        """Check the budget where it is known."""
        check_budget(self.epsilon, L1())

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response ỹ for one posterior, (K,)."""
        probs = simplex.working(probs)
        gain = self.gain(probs, query.image)
        epsilon = jnp.asarray(self.epsilon, probs.dtype)
        solve = linear_max_l1_top if self.keep_argmax else linear_max_l1
        answer = solve(probs, gain.astype(probs.dtype), epsilon)
        return simplex.feasible(probs, answer, epsilon=epsilon, distance=L1(), keep_argmax=self.keep_argmax)

    @classmethod
    def fitted(
        cls,
        defender: Defender,
        *,
        epsilon: jax.Array | float = 0.5,
        keep_argmax: bool = False,
        surrogate: Surrogate = DISTILLED,
    ) -> "GRAD2":
        """Make it for a victim, with the published headline direction z = 𝟏 and a surrogate distilled from the victim.

        Args:
            defender: the victim and its data.
            epsilon: the budget; 0.5 is the largest of the published 0.1, 0.2 and 0.5.
            keep_argmax: keep the top class.
            surrogate: the stand-in for the attacker's model.
        """
        network, params = surrogate.build(defender)
        return cls(network, params, epsilon, all_ones(params), keep_argmax)

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> "GRAD2":
        """The same rule with a surrogate of the attacker's own, along the published direction."""
        params = network.init(key, image_shape)
        direction = None if self.direction is None else all_ones(params)
        return dataclasses.replace(self, logits_fn=network, surrogate=params, direction=direction)

    def gain(self, probs: jax.Array, image: jax.Array) -> jax.Array:
        """c = Gz of one image, (K,): what a unit of mass on each class adds to the update along z."""
        leaves, restore = select(self.surrogate, trainable)

        def answer(chosen: list[jax.Array]) -> jax.Array:
            return log_posterior(self.logits_fn, restore(chosen), image)

        known = jax.eval_shape(answer, leaves)
        check_classes(known.shape[-1], probs.shape[-1])
        if self.direction is None:
            _, pullback = jax.vjp(answer, leaves)
            (clean,) = pullback(-probs.astype(known.dtype))
            return jax.jvp(answer, (leaves,), (clean,))[1]
        own: Any = jax.tree.structure(self.surrogate)
        towards: Any = jax.tree.structure(self.direction)
        if towards != own:
            raise ValueError(
                f"the direction must have the structure of the surrogate's parameters, {own}, not {towards}"
            )
        along, _ = select(self.direction, trainable)
        tangents = [z.astype(leaf.dtype) for z, leaf in zip(along, leaves, strict=True)]
        return jax.jvp(answer, (leaves,), (tangents,))[1]


def all_ones(params: Params) -> Params:
    """The direction z = 𝟏 over every trained parameter: the published headline setting.

    Args:
        params: the surrogate's parameters.

    Returns:
        A tree of the same structure.
    """
    leaves, restore = select(params, trainable)
    return restore([jnp.ones_like(leaf) for leaf in leaves])


def watermark(logits_fn: LogitsFn, params: Params, images: jax.Array, labels: jax.Array) -> Params:
    """The direction in which training on a batch of marked images would move the surrogate.

        z = −∇_w (1/B) Σ_b −log F(x_b; w)_{l_b}

    Responses that redirect towards z teach the attacker the mark.

    Args:
        logits_fn: the surrogate.
        params: its parameters.
        images: the marked images, (B, H, W, C).
        labels: the classes that a marked attacker should answer, (B,), whole numbers.

    Returns:
        A tree of the structure of `params`.

    Raises:
        ValueError: if images and labels differ in number or there are none.
    """
    if len(images) != len(labels) or len(images) == 0:
        raise ValueError(f"images and labels must be as many, at least 1: {len(images)} and {len(labels)}")
    leaves, restore = select(params, trainable)

    def mean_log_likelihood(chosen: list[jax.Array]) -> jax.Array:
        def one(image: jax.Array, label: jax.Array) -> jax.Array:
            return log_posterior(logits_fn, restore(chosen), image)[label]

        return jnp.mean(jax.vmap(one)(jnp.asarray(images), jnp.asarray(labels)))

    return restore(jax.grad(mean_log_likelihood)(leaves))
