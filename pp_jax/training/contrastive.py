"""SwiftThief's loss: learn from responses, and from pairs of changed copies of all images."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_count
from pp_jax.training.augmentation import CIFAR, Augmentation, augmented
from pp_jax.training.contracts import Trainable
from pp_jax.training.losses import check_weight, given, one_hot, soft_cross_entropy
from pp_jax.types import Params

_EPS = 1e-8


@dataclasses.dataclass(frozen=True)
class Siamese(Trainable):
    """A network with a projector and a predictor on its features, as SimSiam has them; it predicts as the network does.

    z = N(W₂ relu(N(W₁ h))) and p = V₂ relu(N(V₁ z)) with h the input of the network's last layer and N the
    standardisation over a batch; V₁ has a quarter of the width.

    Attributes:
        network: one with `features` and `train_features`, as those of `pp_jax.models`.
        width: of z and p, at least 4.

    Raises:
        ValueError: for a network without features, or a width below 4.

    Source: Chen, He, "Exploring simple Siamese representation learning", CVPR 2021 (width 2048).
    """

    network: Any
    width: int

    def __post_init__(self) -> None:
        """Check the parts."""
        check_count("width", self.width, low=4)
        if not hasattr(self.network, "train_features"):
            kind = type(self.network).__name__
            raise ValueError(f"network must have train_features, as those of pp_jax.models, which {kind} has not")

    def init(self, key: jax.Array, image_shape: tuple[int, ...]) -> Params:
        """Fresh parameters of the network and of its heads."""
        keys = jax.random.split(key, 5)
        inner = self.network.init(keys[0], image_shape)
        inputs = jax.eval_shape(self.network.features, inner, jnp.zeros(image_shape)).shape[0]
        sizes = ((inputs, self.width), (self.width,) * 2, (self.width, self.width // 4), (self.width // 4, self.width))
        heads = {
            name: jax.random.normal(one, size) / size[0] ** 0.5
            for name, one, size in zip(("project1", "project2", "predict1", "predict2"), keys[1:], sizes, strict=True)
        }
        return {**inner, "params": {"network": inner["params"], **heads}}

    def train(self, params: Params, images: jax.Array) -> tuple[jax.Array, Params]:
        """Logits (B, K) in training mode, and updated parameters."""
        logits, updated = self.network.train(self.inner(params), images)
        return logits, {**updated, "params": params["params"]}

    def __call__(self, params: Params, image: jax.Array) -> jax.Array:
        """Logits (K,) of one image."""
        return self.network(self.inner(params), image)

    def features(self, params: Params, image: jax.Array) -> jax.Array:
        """Input (F,) of the network's last layer."""
        return self.network.features(self.inner(params), image)

    def embed(self, params: Params, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Projections z and predictions p of a batch in training mode, (B, width) each."""
        own = params["params"]
        z = _standard(jax.nn.relu(_standard(self._train_features(params, images) @ own["project1"])) @ own["project2"])
        return z, jax.nn.relu(_standard(z @ own["predict1"])) @ own["predict2"]

    def inner(self, params: Params) -> Params:
        """The network's own parameters."""
        return {**params, "params": params["params"]["network"]}

    def _train_features(self, params: Params, images: jax.Array) -> jax.Array:
        features, _ = self.network.train_features(self.inner(params), images)
        return features


@dataclasses.dataclass(frozen=True)
class Contrastive:
    """Soft cross-entropy, SimSiam on unlabelled images, and a soft-supervised contrastive loss on those with targets.

    L = CE(ỹ, softmax(z)) + self_weight · SimSiam(u, u′) + soft_weight · L_soft
    SimSiam(u, u′) = −½ cos(p(u), z(u′)) − ½ cos(p(u′), z(u)), no gradient through z; u, u′ two changed copies
    L_soft = −(Σ_{i ≠ j} η_ij cos(p_i, z_j)) / #{η ≠ 0} over both copies of all images with targets, with
    η_ij = (1 − H(ỹ_i)/log K) (1 − H(ỹ_j)/log K) cos(ỹ_i, ỹ_j),   H(y) = −Σ_k y_k log y_k

    so that images are drawn together whose responses agree and are certain. The paper writes 1 + H/log K with H for
    Σ_k y_k log y_k; its code has the sign as above. Class indices count as one-hot responses.

    Attributes:
        self_weight: at least 0.
        soft_weight: at least 0.
        augment: (key, image) to image, for the copies; hashable. Published: resized crops, flips, colours, grey.
        width: of the projections (published: 2048).

    Raises:
        ValueError: for a number out of range; at the first call without unlabelled images, or for a network that is not
            a `Siamese`.

    Source: Lee, Han, Lee, "SwiftThief: enhancing query efficiency of model stealing by contrastive learning", IJCAI
        2024; both weights 1.
    """

    self_weight: float = 1.0
    soft_weight: float = 1.0
    augment: Augmentation = CIFAR
    width: int = 128

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_weight(self.self_weight)
        check_weight(self.soft_weight)
        check_count("width", self.width, low=4)

    def around(self, network: Any) -> Siamese:
        """The network with the heads that this loss trains."""
        return Siamese(network, self.width)

    def classes(self, outputs: int) -> int:
        """All outputs."""
        return outputs

    def __call__(
        self,
        network: Any,
        params: Params,
        images: jax.Array,
        targets: jax.Array,
        unlabelled: jax.Array | None,
        key: Any,
    ) -> tuple[jax.Array, Params]:
        """The loss, and the parameters with the batch statistics of the images with targets."""
        others = given(self, unlabelled)
        if not isinstance(network, Siamese):
            raise ValueError(f"network must be Contrastive(…).around(network), not {type(network).__name__}")
        logits, updated = network.train(params, images)
        own_key, other_key = jax.random.split(key)
        z, p = self._pair(network, params, others, other_key)
        alone = -(_cosines(p[0], z[1]) + _cosines(p[1], z[0])).mean() / 2
        z, p = self._pair(network, params, images, own_key)
        responses = jnp.tile(one_hot(targets, logits), (2, 1))
        together = soft_supervised(p.reshape(-1, self.width), z.reshape(-1, self.width), responses)
        supervised = soft_cross_entropy(logits, targets)
        return supervised + self.self_weight * alone + self.soft_weight * together, updated

    def _pair(self, network: Siamese, params: Params, images: jax.Array, key: Any) -> tuple[jax.Array, jax.Array]:
        """Projections, without a gradient, and predictions of two changed copies of each image, (2, B, width) each."""
        copies = [augmented(one, images, self.augment) for one in jax.random.split(key)]
        z, p = zip(*[network.embed(params, copy) for copy in copies], strict=True)
        return jax.lax.stop_gradient(jnp.stack(z)), jnp.stack(p)


def soft_supervised(predictions: jax.Array, projections: jax.Array, responses: jax.Array) -> jax.Array:
    """L_soft of `Contrastive`: −Σ_{i ≠ j} η_ij cos(p_i, z_j) over the number of pairs whose η_ij is not 0.

    Args:
        predictions: p, (B, D).
        projections: z, (B, D).
        responses: ỹ, (B, K).
    """
    certain = 1 + jax.scipy.special.xlogy(responses, responses).sum(axis=1) / np.log(responses.shape[1])
    alike = _unit(responses) @ _unit(responses).T
    weights = certain[:, None] * certain[None] * alike * (1 - jnp.eye(len(responses), dtype=alike.dtype))
    cosines = _unit(predictions) @ _unit(projections).T
    return -(weights * cosines).sum() / jnp.maximum((weights != 0).sum(), 1)


def _cosines(one: jax.Array, other: jax.Array) -> jax.Array:
    """Cosines of the rows, (B,)."""
    return (_unit(one) * _unit(other)).sum(axis=-1)


def _unit(rows: jax.Array) -> jax.Array:
    """Rows of length 1; a row of zeros stays."""
    squares = (rows**2).sum(axis=-1, keepdims=True)
    return rows / jnp.sqrt(jnp.maximum(squares, _EPS**2))


def _standard(rows: jax.Array) -> jax.Array:
    """Mean 0 and variance 1 over the batch."""
    spread = rows - rows.mean(axis=0, keepdims=True)
    return spread / jnp.sqrt((spread**2).mean(axis=0, keepdims=True) + 1e-5)
