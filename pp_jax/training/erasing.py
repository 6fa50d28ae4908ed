"""Random erasing, and the loss that distils a network from its own guesses for images with a part erased."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pp_jax._checks import check_count
from pp_jax.training.contracts import Trainable
from pp_jax.training.losses import check_weight, given, soft_cross_entropy
from pp_jax.types import Params

AREA = (0.02, 0.4)
"""Smallest and largest share of the image that is erased, as published."""
ASPECT = (0.3, 3.3)
"""Smallest and largest height/width of what is erased, as published."""


def erase(key: jax.Array, image: jax.Array, attention: jax.Array | None = None) -> jax.Array:
    """Fill a random rectangle of an image with the mean of each of its channels.

    Its share of the area is uniform on `AREA`, the logarithm of height/width on that of `ASPECT`, its centre a pixel
    drawn with the probabilities `attention`; what lies outside the image is cut off.

    Args:
        key: PRNG key.
        image: (H, W, C), uint8 or floating point in [0, 1].
        attention: (H, W), at least 0, not all 0; every pixel alike by default.

    Returns:
        (H, W, C) of the same type.

    Source: Zhong et al., "Random erasing data augmentation", AAAI 2020 (which fills with random values).
    """
    height, width = image.shape[:2]
    area_key, aspect_key, centre_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, minval=AREA[0], maxval=AREA[1]) * height * width
    aspect = jnp.exp(jax.random.uniform(aspect_key, minval=jnp.log(ASPECT[0]), maxval=jnp.log(ASPECT[1])))
    logits = jnp.zeros(height * width) if attention is None else jnp.log(attention.reshape(-1))
    row, column = jnp.divmod(jax.random.categorical(centre_key, logits), width)
    rows, columns = jnp.sqrt(area * aspect) / 2, jnp.sqrt(area / aspect) / 2
    inside = (jnp.abs(jnp.arange(height) - row) < rows)[:, None] & (jnp.abs(jnp.arange(width) - column) < columns)[None]
    fill = image.mean(axis=(0, 1), keepdims=True).astype(image.dtype)
    return jnp.where(inside[..., None], fill, image)


@dataclasses.dataclass(frozen=True)
class SelfDistillation:
    """Black-box Dissector's loss: cross-entropy, and agreement with the own guesses for images with a part erased.

    L = CE(t, softmax(z)) + weight · CE(ŷ(u), softmax(z(u))),   ŷ(u) = (1/N) Σ_i softmax(z(erase_i(u)))

    over unlabelled images u; no gradient passes ŷ. Soft labels of its own keep a network that learns from hard ones
    from fitting them too closely. N more forward passes for every unlabelled image.

    Attributes:
        weight: of the second term, at least 0.
        variants: N, at least 1.

    Raises:
        ValueError: for a number out of range; at the first call without unlabelled images.

    Source: Wang et al., "Black-box Dissector", ECCV 2022 (N = 10). The form of the second term is assumed: the paper
        calls it a consistency loss.
    """

    weight: float = 1.0
    variants: int = 10

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_weight(self.weight)
        check_count("variants", self.variants, low=1)

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
        """The loss, and the parameters with the batch statistics of the images with targets."""
        others = given(self, unlabelled)
        logits, updated = network.train(params, images)

        def guess(one: jax.Array) -> jax.Array:
            erased = jax.vmap(erase)(jax.random.split(one, len(others)), others)
            return jax.nn.softmax(network.train(params, erased)[0])

        guesses = jax.lax.stop_gradient(jax.lax.map(guess, jax.random.split(key, self.variants)).mean(axis=0))
        consistency = soft_cross_entropy(network.train(params, others)[0], guesses)
        return soft_cross_entropy(logits, targets) + self.weight * consistency, updated
