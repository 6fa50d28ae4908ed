"""QUEEN (TIFS 2025): count how much of each class's core has been queried, and reverse the gradient beyond a limit."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_count, check_range
from pp_jax.defenses import contrastive
from pp_jax.defenses.cards import Card, Defender, Strength
from pp_jax.defenses.contrastive import Plane
from pp_jax.defenses.diverse import Ensemble
from pp_jax.defenses.surrogates import train_network
from pp_jax.geometry import simplex
from pp_jax.geometry.posteriors import posterior
from pp_jax.pytree import pytree
from pp_jax.training.contracts import Trainable
from pp_jax.training.losses import soft_cross_entropy
from pp_jax.types import LogitsFn, Params, Query

IMAGES = 5000
"""Training images that centres and distances are measured on, at most."""
_STEPS = 20


class Covered(NamedTuple):
    """Where sensitive queries have been, of all users together.

    Attributes:
        points: places in the plane, (K, capacity, 2).
        counts: how many of them are in use, (K,).
        scores: CQS, (K,).
    """

    points: jax.Array
    counts: jax.Array
    scores: jax.Array


@pytree
@dataclasses.dataclass(frozen=True)
class QUEEN:
    """Watch which part of each class's core has been queried; when it is enough, answer with a reversed gradient.

    For a query of class c = argmax y at u in a plane, at distance d = ‖u − μ_c‖ in units of the class's mean distance:
    sensitive iff d < β and no recorded sensitive query of the class lies within r
    a sensitive query is recorded:  CQS_c += SQS² (r/β)²,  SQS = ½ erfc(α (d − 1))
    ỹ = max(2p − y, 0)/Σ     if it is sensitive and CQS_c is above the threshold, p the mean posterior of shadow models
    ỹ = softmax(W h′ + b)    if it is not, h′ = h + s (m_far − h), s ≤ 1 the last step of .05 that keeps the top class
    ỹ = y                    else

    2p − y reverses the last layer's gradient (p − ỹ)h; max(·, 0)/Σ is the posterior of the largest cosine with it.
    m_far is the farthest class's mean feature.

    The coverage is one for all users, as published: in a `session` of its own every user has its own, and asked by
    `perturb_sequence` with one memory all share it. Then one client's queries make everybody's sensitive answers
    poisoned (`experiments.queen_griefing`).

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; never NaN; deterministic, given the queries before. It promises no
    distance; argmax ỹ = argmax y unless the gradient is reversed.

    | posterior | response |
    |---|---|
    | one-hot, p the same | itself, reversed or not |
    | uniform, tied | as the first maximum's class |
    | denormal, K = 2 | as others |
    | the class's memory is full | sensitive queries count and are answered, but are not remembered |

    Attributes:
        features_fn: the victim's, `features_fn(params, image) -> (F,)`; static.
        params: the victim's parameters.
        head: W and b in one, (F + 1, K).
        centres: m, mean features of the classes, (K, F).
        plane: the map of features into the plane, with μ and the mean distances.
        shadow_fn: architecture of the shadow models; static.
        shadows: their parameters, every leaf with a leading axis N (published: N = 5).
        threshold: of CQS (published: 0.5); a leaf.
        alpha: α (published: 0.5); a leaf.
        beta: β (published: 1); a leaf.
        radius: r, in units of the mean distance [assumed: not said in what], (published: 0.02); a leaf.
        capacity: sensitive queries remembered of a class; static.

    Raises:
        ValueError: for a number out of range.

    Source: "QUEEN: query unlearning against model extraction", arXiv 2407.01251. The plane is made by a small network
        trained with the supervised contrastive loss.
    """

    features_fn: Any = dataclasses.field(metadata={"static": True})
    params: Params
    head: jax.Array
    centres: jax.Array
    plane: Plane
    shadow_fn: LogitsFn = dataclasses.field(metadata={"static": True})
    shadows: Params
    threshold: jax.Array | float = 0.5
    alpha: jax.Array | float = 0.5
    beta: jax.Array | float = 1.0
    radius: jax.Array | float = 0.02
    capacity: int = dataclasses.field(default=4096, metadata={"static": True})

    # A lower threshold is a stronger defense: calibration turns the radius, of which the coverage grows.
    card = Card("QUEEN", Strength("radius", 0.0, 1.0), {"radius": 0.02}, trained=True)
    random = False
    reads_image = True

    def __post_init__(self) -> None:
        """Check the parameters where they are known."""
        for name in ("threshold", "alpha"):
            check_range(name, getattr(self, name), low=0, high=1e6)
        check_range("beta", self.beta, low=0, high=1e6, open_low=True)
        check_range("radius", self.radius, low=0, high=1e6)
        check_count("capacity", self.capacity, low=1)

    @classmethod
    def fitted(
        cls,
        defender: Defender,
        *,
        radius: jax.Array | float = 0.02,
        threshold: jax.Array | float = 0.5,
        members: int = 5,
        epochs: int = 1,
    ) -> QUEEN:
        """Make it for a victim: a plane of its features, and shadow models trained on its data.

        Args:
            defender: the victim and its data.
            radius: r.
            threshold: of CQS.
            members: shadow models, at least 2; 5 are published.
            epochs: passes over the victim's data that these are trained for, at least 1.
        """
        shadows = train_network(
            defender, "queen", Ensemble(defender.presumed, members), MembersLoss(), epochs, {"members": members}
        )
        images, labels = defender.training_set()
        images, labels = images[:IMAGES], np.asarray(labels)[:IMAGES]
        if defender.rehearsal:
            labels = np.arange(len(images)) % defender.classes
        features, head = _linear_head(defender, images)
        means = np.stack([features[labels == c].mean(0) if (labels == c).any() else features.mean(0)
                          for c in range(defender.classes)])  # fmt: skip
        plane = contrastive.plane_of(
            defender.surrogate_key, features, labels, classes=defender.classes, steps=0 if defender.rehearsal else 300
        )
        return cls(
            defender.network.features, defender.params, jnp.asarray(head), jnp.asarray(means, jnp.float32), plane,
            defender.presumed, shadows, threshold, radius=radius,
        )  # fmt: skip

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> None:
        """Nothing: responses depend on all queries before, of all users."""
        del key, network, image_shape

    def init(self) -> Covered:
        """Return a coverage of nothing."""
        classes = self.head.shape[1]
        return Covered(jnp.zeros((classes, self.capacity, 2)), jnp.zeros(classes, jnp.int32), jnp.zeros(classes))

    def __call__(self, probs: jax.Array, query: Query, state: Covered) -> tuple[jax.Array, Covered]:
        """Return the response for one posterior, (K,), and the coverage after it."""
        probs = simplex.working(probs)
        if self.head.shape[1] != len(probs):
            raise ValueError(f"the head is of {self.head.shape[1]} classes, the posterior has {len(probs)}")
        top = simplex.first_top(probs)
        features = self.features_fn(self.params, query.image).astype(jnp.float32)
        place = self.plane(features)
        apart = self.plane.distance(place, top)
        near = jnp.linalg.norm(state.points[top] - place[None], axis=1) / self.plane.scales[top] < self.radius
        known = jnp.any(near & (jnp.arange(self.capacity) < state.counts[top]))
        sensitive = (apart < self.beta) & ~known
        gain = (0.5 * jax.scipy.special.erfc(self.alpha * (apart - 1)) * self.radius / self.beta) ** 2
        scores = state.scores.at[top].add(jnp.where(sensitive, gain, 0))
        poisoned = sensitive & (scores[top] > self.threshold)
        moved = jnp.where(sensitive, probs, self.moved(features, top).astype(probs.dtype))
        answer = jnp.where(poisoned, reversed_gradient(probs, self.shadow(query.image).astype(probs.dtype)), moved)
        slot = jnp.minimum(state.counts[top], self.capacity - 1)
        append = sensitive & (state.counts[top] < self.capacity)
        points = state.points.at[top, slot].set(jnp.where(append, place, state.points[top, slot]))
        return answer, Covered(points, state.counts.at[top].add(append.astype(jnp.int32)), scores)

    def shadow(self, image: jax.Array) -> jax.Array:
        """p, the mean posterior of the shadow models, (K,)."""
        return jnp.mean(jax.vmap(posterior, (None, 0, None))(self.shadow_fn, self.shadows, image), axis=0)

    def moved(self, features: jax.Array, top: jax.Array) -> jax.Array:
        """The posterior of the feature moved towards the farthest class as far as the top class stays, (K,)."""
        far = self.centres[jnp.argmax(jnp.sum((self.centres - features[None]) ** 2, axis=1))]
        steps = jnp.arange(_STEPS + 1) / _STEPS
        path = features[None] + steps[:, None] * (far - features)[None]
        logits = path @ self.head[:-1] + self.head[-1:]
        kept = jnp.cumprod(jax.vmap(simplex.first_top)(logits) == top)
        # The head is fitted: at the image itself its top class may differ, and then nothing moves.
        return jax.nn.softmax(logits[jnp.maximum(jnp.sum(kept) - 1, 0)])


def reversed_gradient(probs: jax.Array, shadow: jax.Array) -> jax.Array:
    """The posterior with the largest cosine with 2p − y: its positive part, normalised, (K,).

    Of all v ≥ 0 the positive part of u has the largest cosine with u, and a cosine does not depend on length.
    """
    kept = jnp.maximum(2 * shadow - probs, 0)
    return kept / jnp.sum(kept)


@dataclasses.dataclass(frozen=True)
class MembersLoss:
    """Teaches each member of an `Ensemble` the labels by itself: L = Σ_i CE(t, softmax(z_i))."""

    def __call__(
        self, network: Trainable, params: Params, images: jax.Array, targets: jax.Array, unlabelled: Any, key: Any
    ) -> tuple[jax.Array, Params]:
        """The loss, and the parameters with their batch statistics."""
        del unlabelled, key
        logits, updated = network.train(params, images)
        return jnp.sum(jax.vmap(soft_cross_entropy, (0, None))(logits, targets)), updated


def _linear_head(defender: Defender, images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, F) of images, and W with b below it, (F + 1, K): logits are linear in features, so least squares."""

    def one(image: jax.Array) -> tuple[jax.Array, jax.Array]:
        return defender.network.features(defender.params, image), defender.network(defender.params, image)

    each = jax.jit(lambda rows: jax.lax.map(one, rows, batch_size=250))
    features, logits = (np.asarray(array, np.float64) for array in each(jnp.asarray(images)))
    ones = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    return features.astype(np.float32), np.linalg.lstsq(ones, logits, rcond=None)[0].astype(np.float32)
