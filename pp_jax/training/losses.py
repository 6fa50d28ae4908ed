"""Losses that `fit` can minimise: soft cross-entropy, alone or with outlier exposure."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pp_jax._checks import as_targets, sums_to_one
from pp_jax.training.augmentation import Augmentation, augmented
from pp_jax.training.contracts import Trainable
from pp_jax.types import Params


def soft_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean of −Σ_k ỹ_k log softmax(z)_k over a batch.

    Args:
        logits: z, (B, K).
        targets: ỹ, (B, K) soft labels or (B,) class indices.

    Raises:
        ValueError: for targets of another shape, and, where they are not being traced, for labels out of range or soft
            labels that are not finite and at least 0.
    """
    return jnp.mean(optax.softmax_cross_entropy(logits, one_hot(targets, logits)))


def outlier_exposure(logits: jax.Array) -> jax.Array:
    """Cross-entropy to uniform, −(1/K) Σ_k log f_k: teaches a victim not to be confident on an outlier.

    Args:
        logits: the victim's for one image of another distribution, (K,).

    Returns:
        A scalar ≥ log K, in nats.
    """
    return -jnp.mean(jax.nn.log_softmax(logits))


@dataclasses.dataclass(frozen=True)
class SoftCrossEntropy:
    """The supervised loss, L = −(1/B) Σ_b Σ_k ỹ_bk log softmax(z_b)_k; unlabelled images are not looked at.

    Attributes:
        normalised: whether `fit` refuses soft labels that do not sum to one; False for responses of an API that cuts
            entries off and does not divide by what is left.
    """

    normalised: bool = True

    def classes(self, outputs: int) -> int:
        """All outputs."""
        return outputs

    def __call__(
        self, network: Trainable, params: Params, images: jax.Array, targets: jax.Array, unlabelled: Any, key: Any
    ) -> tuple[jax.Array, Params]:
        """The loss, and the parameters with updated batch statistics."""
        del unlabelled, key
        logits, updated = network.train(params, images)
        return soft_cross_entropy(logits, targets), updated


SUPERVISED = SoftCrossEntropy()
"""The default of `fit`."""


def supervised_by(responses: Any) -> SoftCrossEntropy:
    """The supervised loss for the responses of an API, some of which cut entries off: for these, not `normalised`."""
    return SUPERVISED if np.ndim(responses) != 2 else SoftCrossEntropy(sums_to_one(responses))


@dataclasses.dataclass(frozen=True)
class OutlierExposure:
    """A victim that is not confident on outliers, which are given as unlabelled images.

    L = CE(t, softmax(z)) + weight · mean over outliers of −(1/K) Σ_k log f_k

    Attributes:
        weight: of the second term, at least 0 (published: 0.5).
        augment: (key, image) to image, for the victim's own data; hashable.

    Raises:
        ValueError: for a weight out of range; at the first call without unlabelled images.

    Source: Hendrycks, Mazeika, Dietterich, "Deep anomaly detection with outlier exposure", ICLR 2019.
    """

    weight: float = 0.5
    augment: Augmentation | None = None

    def __post_init__(self) -> None:
        """Check the weight."""
        check_weight(self.weight)

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
        outliers = given(self, unlabelled)
        logits, updated = network.train(params, augmented(key, images, self.augment))
        foreign, _ = network.train(params, outliers)
        exposure = jnp.mean(jax.vmap(outlier_exposure)(foreign))
        return soft_cross_entropy(logits, targets) + self.weight * exposure, updated


def one_hot(targets: jax.Array, logits: jax.Array) -> jax.Array:
    """Targets (B, K) as they are, and (B,) class indices as rows like those of `logits`, (B, K)."""
    targets = as_targets(targets, shape=logits.shape[:1], classes=logits.shape[1], normalised=False)
    return targets if targets.ndim == 2 else jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)


def given(loss: Any, unlabelled: jax.Array | None) -> jax.Array:
    """The unlabelled images of a loss that cannot do without."""
    if unlabelled is None:
        raise ValueError(f"unlabelled must be given to {type(loss).__name__}, not None")
    return unlabelled


def check_weight(weight: float) -> None:
    """Refuse a weight out of range."""
    if not 0 <= weight < float("inf"):
        raise ValueError(f"weight must be at least 0 and finite, not {weight}")
