"""How strange a query is to the victim: the gate of defenses that spare the queries of its own distribution."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax.posteriors import posterior
from pp_jax.pytree import pytree
from pp_jax.types import Params

_SHRINKAGE = 1e-3
_BATCH = 1000


@pytree
@dataclasses.dataclass(frozen=True)
class Novelty:
    """Tells queries of another distribution by the victim's doubt and by the distance of its features.

    s₁ = 1 − max y,    s₂ = min_k (h − μ_k)ᵀ Σ⁻¹ (h − μ_k)

    with h the input of the victim's last layer, μ_k its mean over training images of class k, Σ their common
    covariance. `level` is the smaller of the two shares of familiar images that are at least as strange, so that
    `level < q` holds for q to 2q of the familiar ones, whatever the victim.

    Attributes:
        features_fn: `features_fn(params, image) -> (F,)`, the victim's, such as `network.features`; static.
        params: the victim's parameters.
        means: μ, (K, F).
        whitening: W with W Wᵀ = Σ⁻¹, (F, F).
        familiar: s₁ and s₂ of n images of the victim's distribution, each sorted, (2, n).

    Source: the distance is that of Lee, Lee, Lee, Shin, "A simple unified framework for detecting out-of-distribution
        samples and adversarial attacks", NeurIPS 2018; s₁ that of Hendrycks, Gimpel, ICLR 2017.
    """

    features_fn: Callable[[Params, jax.Array], jax.Array] = dataclasses.field(metadata={"static": True})
    params: Params
    means: jax.Array
    whitening: jax.Array
    familiar: jax.Array

    def level(self, probs: jax.Array, image: jax.Array) -> jax.Array:
        """The level of significance of "this is of the victim's distribution", in [0, 1); low for strange images.

        Args:
            probs: the victim's posterior, (K,).
            image: (H, W, C).
        """
        scores = _scores(probs, self.features_fn(self.params, image), self.means, self.whitening)
        count = self.familiar.shape[1]
        stranger = count - jax.vmap(jnp.searchsorted)(self.familiar, scores)
        return jnp.min(stranger) / (count + 1)


def fit(network: Any, params: Params, images: Any, labels: Any) -> Novelty:
    """Learn what is familiar from the victim's training images: half for the means and Σ, half for what is usual.

    Args:
        network: the victim, `network(params, image) -> (K,)` with `network.features`.
        params: its parameters.
        images: of its distribution, in random order, (N, H, W, C).
        labels: their classes, (N,); every class must be among the first half.

    Returns:
        The gate. Σ is shrunk by a thousandth of its mean variance, so that features that never vary do no harm.

    Raises:
        ValueError: for labels that are not as many as the images, or a class that is missing.
    """
    if len(images) != len(labels) or len(images) < 2:
        raise ValueError(f"there must be as many labels as images, at least 2, not {len(labels)} and {len(images)}")
    each = jax.jit(jax.vmap(lambda image: (posterior(network, params, image), network.features(params, image))))
    parts = [jax.device_get(each(images[start : start + _BATCH])) for start in range(0, len(images), _BATCH)]
    probs, features = (np.concatenate(column) for column in zip(*parts, strict=True))
    half, classes = len(images) // 2, probs.shape[1]
    own, known = features[:half].astype(np.float64), np.asarray(labels)[:half]
    missing = sorted(set(range(classes)) - set(known.tolist()))
    if missing:
        raise ValueError(f"every class must be among the first {half} images, but {missing} are not")
    means = np.stack([own[known == label].mean(axis=0) for label in range(classes)])
    rest = own - means[known]
    covariance = rest.T @ rest / len(rest)
    covariance += (_SHRINKAGE * np.trace(covariance) / len(covariance) + 1e-12) * np.eye(len(covariance))
    whitening = np.linalg.cholesky(np.linalg.inv(covariance)).astype(np.float32)
    fitted = jax.vmap(_scores, (0, 0, None, None))
    scores = fitted(jnp.asarray(probs[half:]), jnp.asarray(features[half:]), jnp.float32(means), jnp.asarray(whitening))
    familiar = jnp.sort(scores.T, axis=1)
    return Novelty(network.features, params, jnp.float32(means), jnp.asarray(whitening), familiar)


def _scores(probs: jax.Array, features: jax.Array, means: jax.Array, whitening: jax.Array) -> jax.Array:
    """s₁ and s₂ of one image, (2,)."""
    apart = (features.astype(means.dtype)[None, :] - means) @ whitening
    return jnp.stack([(1 - jnp.max(probs)).astype(means.dtype), jnp.min(jnp.sum(apart**2, axis=1))])
