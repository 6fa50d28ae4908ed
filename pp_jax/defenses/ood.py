"""How strange a query is to the victim: the gate of defenses that spare the queries of its own distribution."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import as_labels, as_pixels
from pp_jax.geometry.posteriors import posterior
from pp_jax.pytree import pytree
from pp_jax.types import Params

COMPONENTS = 100
"""Principal components of the images, at most."""
PRINCIPAL_IMAGES = 2000
"""Images that these are taken from, at most: the work grows with its square."""
_SHRINKAGE = 1e-3
_BATCH = 1000


@pytree
@dataclasses.dataclass(frozen=True)
class Novelty:
    """Tells queries of another distribution by the victim's doubt, by its features, and by the pixels.

    s₁ = 1 − max y,    s₂ = min_k (h − μ_k)ᵀ Σ⁻¹ (h − μ_k),    s₃ = ‖(I − V Vᵀ)(x − m)‖²

    with h the input of the victim's last layer, μ_k its mean over training images of class k, Σ their common
    covariance, m the mean training image and V the principal components. What the victim is sure of may still not look
    like what it was trained on, and the other way round. `level` is the share of in-distribution images that are as
    strange in one of the three ways as this image is in its strangest, so that `level < q` holds for a share q of the
    familiar ones, whatever the victim.

    Attributes:
        features_fn: `features_fn(params, image) -> (F,)`, the victim's, such as `network.features`; static.
        params: the victim's parameters.
        whitening: W with W Wᵀ = Σ⁻¹, (F, F).
        means: Wᵀμ, (K, F).
        centre: m, (H·W·C,).
        components: V, (H·W·C, n).
        familiar: s₁, s₂ and s₃ of N images of the victim's distribution, each sorted, (3, N).
        least: for each of the same images the smallest share of the others that is as strange in one way, sorted, (N,).

    Source: s₂ is that of Lee, Lee, Lee, Shin, "A simple unified framework for detecting out-of-distribution samples and
        adversarial attacks", NeurIPS 2018; s₁ that of Hendrycks, Gimpel, ICLR 2017; s₃ is the reconstruction error of
        principal component analysis.
    """

    features_fn: Callable[[Params, jax.Array], jax.Array] = dataclasses.field(metadata={"static": True})
    params: Params
    whitening: jax.Array
    means: jax.Array
    centre: jax.Array
    components: jax.Array
    familiar: jax.Array
    least: jax.Array

    def level(self, probs: jax.Array, image: jax.Array) -> jax.Array:
        """The p-value of "this is of the victim's distribution", in [0, 1); low for images of another one.

        Args:
            probs: the victim's posterior, (K,).
            image: (H, W, C).
        """
        least = self.strangest(self.scores(probs, image))
        count = len(self.least)
        return jnp.searchsorted(self.least, least, side="right") / (count + 1)

    def scores(self, probs: jax.Array, image: jax.Array) -> jax.Array:
        """s₁, s₂ and s₃, (3,); arguments as those of `level`."""
        apart = (self.features_fn(self.params, image).astype(self.means.dtype) @ self.whitening)[None, :] - self.means
        pixels = _pixels(image) - self.centre
        rest = pixels - self.components @ (pixels @ self.components)
        doubt = (1 - jnp.max(probs)).astype(self.means.dtype)
        return jnp.stack([doubt, jnp.min(jnp.sum(apart**2, axis=1)), jnp.sum(rest**2)])

    def strangest(self, scores: jax.Array) -> jax.Array:
        """The smallest share of in-distribution images that are at least as strange in one way, of s, (3,)."""
        count = self.familiar.shape[1]
        return jnp.min(count - jax.vmap(jnp.searchsorted)(self.familiar, scores)) / count


def fit(network: Any, params: Params, images: Any, labels: Any) -> Novelty:
    """Learn what is familiar from the victim's training images: half for μ, Σ and V, half for what is usual.

    Args:
        network: the victim, `network(params, image) -> (K,)` with `network.features`.
        params: its parameters.
        images: of its distribution, in random order, (N, H, W, C).
        labels: their classes, (N,); every class must be among the first half.

    Returns:
        The gate. Σ is shrunk by a thousandth of its mean variance, so that features that never vary do no harm; V has
        `COMPONENTS` columns, or half as many as there are images for it or pixels, so that something is left over.

    Raises:
        ValueError: for pixels or labels out of range, labels that are not as many as the images, a class that is
            missing, or parameters that are not finite.
    """
    images, labels = as_pixels(images), as_labels(labels)
    if len(images) != len(labels) or len(images) < 4:
        raise ValueError(f"there must be as many labels as images, at least 4, not {len(labels)} and {len(images)}")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise ValueError("the victim's parameters must be finite, but hold NaN or infinity: train it again")
    each = jax.jit(jax.vmap(lambda image: (posterior(network, params, image), network.features(params, image))))
    probs, features = _in_parts(each, images)
    half, classes = len(images) // 2, probs.shape[1]
    labels = np.asarray(as_labels(labels, classes=classes))
    own, known = features[:half].astype(np.float64), labels[:half]
    missing = sorted(set(range(classes)) - set(known.tolist()))
    if missing:
        raise ValueError(
            f"every class must be among the first {half} images, but {missing} are not; shuffle images and labels "
            "together, or give more"
        )
    means = np.stack([own[known == label].mean(axis=0) for label in range(classes)])
    whitening = _whitening(own - means[known])
    centre, components = _principal(images[:half][:PRINCIPAL_IMAGES])
    # What is usual is not yet known; the scores do not depends on it.
    none = jnp.zeros((3, 1))
    w, mu, m, v = (jnp.asarray(array, jnp.float32) for array in (whitening, means @ whitening, centre, components))
    gate = Novelty(network.features, params, w, mu, m, v, familiar=none, least=none[0])
    (scores,) = _in_parts(jax.jit(jax.vmap(lambda y, image: (gate.scores(y, image),))), probs[half:], images[half:])
    gate = dataclasses.replace(gate, familiar=jnp.sort(jnp.asarray(scores).T, axis=1))
    return dataclasses.replace(gate, least=jnp.sort(jax.vmap(gate.strangest)(jnp.asarray(scores))))


def _in_parts(each: Any, *arrays: Any) -> tuple[np.ndarray, ...]:
    """What a function of batches returns for whole arrays, part by part, on the host."""
    starts = range(0, len(arrays[0]), _BATCH)
    parts = [jax.device_get(each(*(array[start : start + _BATCH] for array in arrays))) for start in starts]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _whitening(rest: np.ndarray) -> np.ndarray:
    """W with W Wᵀ the inverse of the shrunk covariance of centred rows, (F, F)."""
    covariance = rest.T @ rest / len(rest)
    covariance += (_SHRINKAGE * np.trace(covariance) / len(covariance) + 1e-12) * np.eye(len(covariance))
    return np.asarray(np.linalg.cholesky(np.linalg.inv(covariance)))


def _principal(images: Any) -> tuple[np.ndarray, np.ndarray]:
    """The mean of images, (D,), and their principal components, (D, n)."""
    pixels = np.asarray(jax.vmap(_pixels)(jnp.asarray(images)))
    centre = pixels.mean(axis=0)
    count = min(COMPONENTS, min(pixels.shape) // 2)
    _, _, components = np.linalg.svd(pixels - centre, full_matrices=False)
    return centre, components[:count].T


def _pixels(image: jax.Array) -> jax.Array:
    """The pixels of an image in a row, (D,); those of uint8 images count in 255ths, as the networks take them."""
    scale = 255 if image.dtype == jnp.uint8 else 1
    return image.ravel().astype(jnp.float32) / scale
