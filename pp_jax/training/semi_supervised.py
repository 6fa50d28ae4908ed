"""Losses that learn from unlabelled images as well: quarter turns (S4L) and sharpened guesses (MixMatch)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pp_jax.training.augmentation import CIFAR, Augmentation, augmented
from pp_jax.training.contracts import Trainable
from pp_jax.training.losses import check_weight, given, one_hot, soft_cross_entropy
from pp_jax.types import Params

_TURNS = 4


@dataclasses.dataclass(frozen=True)
class FirstClasses:
    """A network of which only the first outputs are classes: what is left of one that was trained with `Rotations`.

    Attributes:
        network: the network, with more outputs.
        classes: K.
    """

    network: Any
    classes: int

    @property
    def vmapped(self) -> "FirstClasses":
        """The network's form that is fast under `vmap` over the parameters."""
        return dataclasses.replace(self, network=self.network.vmapped)

    def init(self, key: jax.Array, image_shape: tuple[int, ...]) -> Params:
        """The network's parameters."""
        return self.network.init(key, image_shape)

    def train(self, params: Params, images: jax.Array) -> tuple[jax.Array, Params]:
        """Logits (B, K) in training mode, and updated parameters."""
        logits, updated = self.network.train(params, images)
        return logits[:, : self.classes], updated

    def __call__(self, params: Params, image: jax.Array) -> jax.Array:
        """Logits (K,) of one image."""
        return self.network(params, image)[: self.classes]


@dataclasses.dataclass(frozen=True)
class Rotations:
    """S4L: tell which quarter turn an unlabelled image has undergone, in addition to learning the targets.

    L = CE(ỹ, softmax(z_1..K)) + weight · CE(turn, softmax(z_K+1..K+4)), all four turns of each image

    The network has K + 4 outputs and images are square; `FirstClasses(network, K)` is what predicts afterwards.

    Attributes:
        weight: of the second term, at least 0.

    Raises:
        ValueError: for a weight out of range; at the first call for another number of outputs, oblong images or no
            unlabelled ones.

    Source: Zhai, Oliver, Kolesnikov, Beyer, "S4L", ICCV 2019.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        """Check the weight."""
        check_weight(self.weight)

    def classes(self, outputs: int) -> int:
        """All outputs but those that tell the turns."""
        if outputs < _TURNS + 2:
            raise ValueError(f"the network must have K + {_TURNS} outputs, with_outputs(K + {_TURNS}), not {outputs}")
        return outputs - _TURNS

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
        del key
        others = given(self, unlabelled)
        if others.shape[1] != others.shape[2]:
            raise ValueError(f"images must be square to be turned, not {others.shape[1]} by {others.shape[2]}")
        logits, updated = network.train(params, images)
        classes = targets.shape[-1] if targets.ndim == 2 else logits.shape[-1] - _TURNS
        if logits.shape[-1] != classes + _TURNS:
            raise ValueError(f"the network must have {classes} + {_TURNS} outputs, not {logits.shape[-1]}")
        turned = jnp.concatenate([jnp.rot90(others, turn, axes=(1, 2)) for turn in range(_TURNS)])
        guesses = network.train(params, turned)[0][:, classes:]
        turns = jnp.repeat(jnp.arange(_TURNS), len(others))
        supervised = soft_cross_entropy(logits[:, :classes], targets)
        return supervised + self.weight * soft_cross_entropy(guesses, turns), updated


@dataclasses.dataclass(frozen=True)
class MixMatch:
    """MixMatch: sharpened guesses for unlabelled images, and everything mixed with everything.

    q = sharpen(mean of softmax(z) over two changed copies),   sharpen(p) ∝ p^(1/T)
    (x, t) ← λ(x, t) + (1 − λ)(x′, t′), λ = max(l, 1 − l), l ~ Beta(alpha, alpha), x′ another image of either kind
    L = CE over images with targets + weight · mean squared difference of softmax(z) and q over unlabelled ones

    Attributes:
        weight: of the second term, at least 0.
        temperature: T > 0.
        alpha: at least 0; 0 mixes nothing.
        augment: (key, image) to image, for the two copies; hashable.

    Raises:
        ValueError: for a number out of range; at the first call without unlabelled images.

    Source: Berthelot et al., "MixMatch", NeurIPS 2019; two copies, T = ½ and alpha = 0.75 as there, where the weight is
        larger and grows during training.
    """

    weight: float = 10.0
    temperature: float = 0.5
    alpha: float = 0.75
    augment: Augmentation = CIFAR

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_weight(self.weight)
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be above 0 and finite, not {self.temperature}")
        if not 0 <= self.alpha < float("inf"):
            raise ValueError(f"alpha must be at least 0 and finite, not {self.alpha}")

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
        augment_key, mix_key = jax.random.split(key)
        images, others = _floating(images), _floating(given(self, unlabelled))
        first, second = (augmented(copy_key, others, self.augment) for copy_key in jax.random.split(augment_key))
        guesses = self._guess(network, params, first, second)
        targets = one_hot(targets, guesses)
        guesses = guesses.astype(targets.dtype)
        x = jnp.concatenate([images, first, second])
        t = jnp.concatenate([targets, guesses, guesses])
        x, t = self._mix(mix_key, x, t)
        logits, updated = network.train(params, x[: len(images)])
        far = jax.nn.softmax(network.train(params, x[len(images) :])[0]) - t[len(images) :]
        return soft_cross_entropy(logits, t[: len(images)]) + self.weight * jnp.mean(far**2), updated

    def _guess(self, network: Trainable, params: Params, first: jax.Array, second: jax.Array) -> jax.Array:
        """The sharpened mean of two copies' posteriors; no gradient passes."""
        one, two = (jax.nn.softmax(network.train(params, copy)[0]) for copy in (first, second))
        mean = (one + two) / 2
        sharp = jax.nn.softmax(jnp.log(jnp.maximum(mean, jnp.finfo(mean.dtype).tiny)) / self.temperature)
        return jax.lax.stop_gradient(sharp)

    def _mix(self, key: jax.Array, x: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Each image and target mixed with those of a random other, mostly itself."""
        if self.alpha == 0:
            return x, t
        order_key, share_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(x))
        draw = jax.random.beta(share_key, self.alpha, self.alpha, (len(x),)).astype(x.dtype)
        share = jnp.maximum(draw, 1 - draw)
        pixels, rows = share[:, None, None, None], share[:, None].astype(t.dtype)
        return pixels * x + (1 - pixels) * x[order], rows * t + (1 - rows) * t[order]


def _floating(images: jax.Array) -> jax.Array:
    """Pixels in [0, 1], so that images can be mixed."""
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images
