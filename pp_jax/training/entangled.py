"""Entangled watermarks: a victim learns a trigger in the same features as the class that it is to be taken for.

Jia, Choquette-Choo, Chandrasekaran, Papernot: "Entangled watermarks as a defense against model extraction", USENIX
Security 2021.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pp_jax._checks import check_count, check_range
from pp_jax.training.contracts import Trainable
from pp_jax.training.losses import check_weight, given, one_hot, soft_cross_entropy
from pp_jax.types import Params


def soft_nearest_neighbour(features: Any, groups: Any, *, temperature: Any, included: Any = None) -> jax.Array:
    """How far apart the groups of some points are: small where a point's neighbours are of its own group.

    −mean_i log( Σ_{j ≠ i, g_j = g_i} e^{−d_ij/T} / Σ_{j ≠ i} e^{−d_ij/T} ),   d_ij = ‖h_i − h_j‖²

    Args:
        features: h, (N, F).
        groups: g, (N,).
        temperature: T > 0.
        included: (N,), which points count; all by default. Points without another of their group are left out.

    Returns:
        A scalar ≥ 0; 0 where no point has another of its group.
    """
    count = len(features)
    included = jnp.ones(count, bool) if included is None else included
    squared = jnp.sum(features**2, axis=1)
    apart = jnp.maximum(squared[:, None] + squared[None, :] - 2 * features @ features.T, 0)
    pairs = included[:, None] & included[None, :] & ~jnp.eye(count, dtype=bool)
    own = pairs & (groups[:, None] == groups[None, :])
    lonely = ~own.any(axis=1)
    # Where a row has no pair, log Σ would be −∞ and its gradient NaN.
    weights = -apart / temperature
    near = jax.nn.logsumexp(jnp.where(own | lonely[:, None], weights, -jnp.inf), axis=1)
    far = jax.nn.logsumexp(jnp.where(pairs | lonely[:, None], weights, -jnp.inf), axis=1)
    return jnp.sum(jnp.where(lonely, 0, far - near)) / jnp.maximum(jnp.sum(~lonely), 1)


@dataclasses.dataclass(frozen=True)
class Entangled:
    """A victim that takes triggers, which are given as unlabelled images, for a class, and cannot tell them from it.

    L = CE(t, F(x)) + CE(target, F(trigger)) − κ · SNNL(h; trigger or image of the target class)

    SNNL is `soft_nearest_neighbour` over the inputs h of the last layer, of the batch's triggers and of its images of
    the target class, T in multiples of their mean squared distance. Maximising it mixes the two groups, so that a copy
    that learns the class learns the trigger. Of the published scheme are left out: two more layers, a T that is
    learned, and triggers that are moved along gradients (`pp_jax.ownership.patched` makes plain ones).

    The network needs `features(params, image)`, which is evaluated in inference mode.

    Attributes:
        target: the class.
        weight: κ, at least 0; 0 is an ordinary backdoor, which a copy does not learn.
        temperature: T above 0.

    Raises:
        ValueError: for a number out of range; at the first call without unlabelled images, for a target that is no
            class, or a network without features.
    """

    target: int
    weight: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check every number."""
        check_count("target", self.target, low=0)
        check_weight(self.weight)
        check_range("temperature", self.temperature, low=0, high=float("inf"), open_low=True)

    def classes(self, outputs: int) -> int:
        """All outputs."""
        return outputs

    def __call__(
        self,
        network: Trainable,
        params: Params,
        images: jax.Array,
        targets: jax.Array,
        unlabelled: jax.Array | None,
        key: Any,
    ) -> tuple[jax.Array, Params]:
        """The loss, and the parameters with the batch statistics of the victim's own data."""
        del key
        triggers = given(self, unlabelled)
        features = getattr(network, "features", None)
        if not callable(features):
            raise ValueError(f"Entangled needs a network with features(params, image), not {type(network).__name__}")
        logits, updated = network.train(params, images)
        if self.target >= logits.shape[1]:
            raise ValueError(f"target is {self.target}: must be below the network's {logits.shape[1]} classes")
        marked, _ = network.train(params, triggers)
        backdoor = -jnp.mean(jax.nn.log_softmax(marked)[:, self.target])
        points = jax.vmap(features, (None, 0))(params, jnp.concatenate([images, triggers]))
        groups = jnp.arange(len(points)) >= len(images)
        included = groups | (jnp.argmax(_padded(one_hot(targets, logits), len(points)), axis=1) == self.target)
        scale = jax.lax.stop_gradient(_mean_squared_distance(points, included))
        entangled = soft_nearest_neighbour(
            points, groups, temperature=self.temperature * jnp.maximum(scale, 1e-6), included=included
        )
        return soft_cross_entropy(logits, targets) + backdoor - self.weight * entangled, updated


def _padded(rows: jax.Array, count: int) -> jax.Array:
    """Rows with zeros behind them, up to so many; their argmax is looked at only where they are real."""
    return jnp.pad(rows, ((0, count - len(rows)), (0, 0)))


def _mean_squared_distance(points: jax.Array, included: jax.Array) -> jax.Array:
    """The mean of ‖h_i − h_j‖² over pairs that count: twice the total variance."""
    weights = included / jnp.maximum(jnp.sum(included), 1)
    centre = weights @ points
    return 2 * weights @ jnp.sum((points - centre[None, :]) ** 2, axis=1)
