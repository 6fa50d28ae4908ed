"""Neural Honeytrace: responses drift towards a target where an image resembles secret mixtures; no training needed.

Xu et al.: "Neural Honeytrace: A Robust Plug-and-Play Watermarking Framework against Model Extraction Attacks",
arXiv 2501.09328.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import as_labels, as_pixels, check_count, check_random_key, check_range
from pp_jax.defenses.cards import Card, Defender, Strength
from pp_jax.geometry import simplex
from pp_jax.geometry.posteriors import log_posterior
from pp_jax.pytree import pytree
from pp_jax.types import Params, Query

MIXTURES, FAMILIAR, NEAREST = 500, 2000, 10
"""Mixtures whose features are kept; training images that the scale is set on; mixtures that a distance averages."""


@pytree
@dataclasses.dataclass(frozen=True)
class Honeytrace:
    """Blend the response with that of a target class, the more the image resembles the defender's secret mixtures.

    z = log y;   z ← (1 − s²) z + s² z_ref;   with probability s³ z ← z_ref;   ỹ = softmax(z)
    s = max(0, 1 − d/scale),   d = mean over the 10 nearest mixtures m of mean_f |h_f(x) − h_f(m)|

    h are the inputs of the victim's last layer. A mixture is half an image of the target class and half one of another
    class (`mixtures`); a copy that learns from blended responses calls new mixtures the target class
    (`pp_jax.ownership.TriggerMark`). Where max y < ½ the published code takes the query for an attacker's and s^¼ for
    s; so it is here. That code divides no distance by a scale; here `fitted` sets one so that a stated share of the
    victim's own training images has s > 0. Stateless: the published pool of past queries is left out.

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; never NaN; ỹ = y wherever s = 0.

    | posterior, similarity | response |
    |---|---|
    | s = 1 | softmax(z_ref) |
    | one-hot, 0 < s < 1 | zeros count as the smallest positive number: nearly one-hot, but for the draw of s³ |
    | uniform, K = 2, tied, denormal entries | blended as others |
    | scale = 0 | y |

    Attributes:
        features_fn: `features_fn(params, image) -> (F,)`; static.
        params: of the victim.
        references: features of mixtures, (R, F).
        target: z_ref, log-probabilities, (K,).
        scale: distance at which nothing is blended any more, at least 0; a leaf.

    Raises:
        ValueError: for a scale below 0; at the first call for a target of another number of classes.
    """

    features_fn: Callable[[Params, jax.Array], jax.Array] = dataclasses.field(metadata={"static": True})
    params: Params
    references: jax.Array
    target: jax.Array
    scale: jax.Array | float

    card = Card("Neural Honeytrace", Strength("share", 0.0, 0.2))
    random = True
    reads_image = True

    def __post_init__(self) -> None:
        """Check the scale where it is known."""
        check_range("scale", self.scale, low=0, high=float("inf"))

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        probs = simplex.working(probs)
        if self.target.shape != probs.shape:
            raise ValueError(f"the target has {self.target.shape[0]} classes, the victim's posterior {len(probs)}")
        similarity = self.similarity(query.image).astype(probs.dtype)
        similarity = jnp.where(jnp.max(probs) < 0.5, similarity**0.25, similarity)
        target = self.target.astype(probs.dtype)
        logits = jnp.log(jnp.maximum(probs, jnp.finfo(probs.dtype).tiny))
        blended = (1 - similarity**2) * logits + similarity**2 * target
        replaced = jax.random.uniform(query.key) < similarity**3
        return jnp.where(similarity > 0, jax.nn.softmax(jnp.where(replaced, target, blended)), probs)

    def similarity(self, image: jax.Array) -> jax.Array:
        """s ∈ [0, 1] of an image, (H, W, C), before that of attackers' queries is raised; a scalar."""
        distance = _distance(self.features_fn(self.params, image), self.references)
        return jnp.where(self.scale > 0, jnp.clip(1 - distance / jnp.where(self.scale > 0, self.scale, 1), 0, 1), 0)

    @classmethod
    def fitted(cls, defender: Defender, *, target: int = 0, share: float = 0.05) -> "Honeytrace":
        """Make it for a victim: mixtures of its training images, and a scale that stays clear of most of these.

        Args:
            defender: the victim and its data; the network needs `features(params, image)`.
            target: class that the mark speaks of.
            share: of the victim's training images that have s > 0; what the mark may cost a benign user.

        Raises:
            ValueError: for a target that is no class, a share out of range, or a victim without features or images.
        """
        check_range("share", share, low=0, high=1)
        if not callable(getattr(defender.network, "features", None)):
            raise ValueError(f"the victim must have features(params, image), not {type(defender.network).__name__}")
        network, params, key = defender.network, defender.params, jax.random.fold_in(defender.surrogate_key, 12)
        if defender.rehearsal:
            shape = jax.eval_shape(network.features, params, jnp.zeros(defender.image_shape)).shape
            return cls(network.features, params, jnp.zeros((1, *shape)), jnp.zeros(defender.classes), 0.0)
        images, labels = defender.training_set()
        mixed = mixtures(key, images, labels, target=target, count=MIXTURES)
        features = _mapped(network.features, params, mixed)
        own = np.asarray(images)[np.asarray(labels) == target][:FAMILIAR]
        reference = _mapped(lambda p, x: log_posterior(network, p, x), params, own).mean(axis=0)
        known = _mapped(network.features, params, np.asarray(images)[:FAMILIAR])
        distances = np.asarray(jax.jit(jax.vmap(_distance, (0, None)))(known, features))
        scale = float(np.quantile(distances, share)) if share else 0.0
        return cls(network.features, params, jnp.asarray(features), jnp.asarray(reference), scale)


def mixtures(key: jax.Array, images: Any, labels: Any, *, target: int, count: int) -> np.ndarray:
    """Images that are half of the target class and half of another one: (x_target + x_other)/2.

    Args:
        key: randomness; mixtures that a claim is made with need another key than the defense's own.
        images: (N, H, W, C), uint8 or floating point in [0, 1].
        labels: their classes, (N,).
        target: a class with at least one image, as there must be one outside of it.
        count: how many.

    Returns:
        (count, H, W, C), of the same type.

    Raises:
        ValueError: for a class without images, or only that class.
    """
    check_random_key(key)
    check_count("count", count, low=1)
    images, labels = np.asarray(as_pixels(images)), np.asarray(as_labels(labels))
    own, others = np.flatnonzero(labels == target), np.flatnonzero(labels != target)
    if not len(own) or not len(others):
        raise ValueError(f"target is {target}: there must be images of this class and of others, not {len(own)} of it")
    first, second = jax.random.split(key)
    a = own[np.asarray(jax.random.randint(first, (count,), 0, len(own)))]
    b = others[np.asarray(jax.random.randint(second, (count,), 0, len(others)))]
    mixed = (images[a].astype(np.float32) + images[b].astype(np.float32)) / 2
    return (np.round(mixed) if images.dtype == np.uint8 else mixed).astype(images.dtype)


def _distance(features: jax.Array, references: jax.Array) -> jax.Array:
    """Mean over the nearest references of the mean absolute difference, a scalar."""
    apart = jnp.mean(jnp.abs(features[None, :] - references), axis=1)
    nearest = -jax.lax.top_k(-apart, min(NEAREST, len(apart)))[0]
    return jnp.mean(nearest)


def _mapped(function: Callable[[Params, jax.Array], jax.Array], params: Params, images: Any) -> np.ndarray:
    """A function of single images for many, on the host."""
    each = jax.jit(lambda images: jax.lax.map(lambda image: function(params, image), images, batch_size=250))
    return np.asarray(each(jnp.asarray(images)))
