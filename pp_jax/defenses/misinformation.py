"""Adaptive misinformation (Kariyappa, Qureshi: "Defending against model stealing attacks with adaptive misinformation",
CVPR 2020), and the loss that its network is trained with."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pp_jax._checks import check_classes, check_range
from pp_jax.defenses.cards import Card, Defender, Strength
from pp_jax.defenses.surrogates import train_network
from pp_jax.geometry import simplex
from pp_jax.geometry.posteriors import posterior
from pp_jax.pytree import pytree
from pp_jax.training.augmentation import Augmentation, augmented
from pp_jax.training.contracts import Trainable
from pp_jax.types import LogitsFn, Params, Query


@pytree
@dataclasses.dataclass(frozen=True)
class AdaptiveMisinformation:
    """Mix in the prediction of a network that was taught to be wrong, wherever the victim is not confident.

    ỹ = (1 − α) y + α f̂(x),   α = 1/(1 + exp(ν (max y − τ)))

    Queries from another distribution tend to have a low max y (the more so if the victim was trained with
    `training.OutlierExposure`) and are answered with f̂; f̂ is trained with `MisinformationLoss`.

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; never NaN for finite logits; deterministic. It promises no distance and
    does not keep the argmax: the response is anything between y and f̂(x).

    | posterior, parameters | answer |
    |---|---|
    | one-hot | y, for τ < 1 and ν = 1000, up to e^{−ν(1 − τ)} |
    | max y = τ | the mean of y and f̂ |
    | uniform, tied | α depends on the value of max y alone |
    | denormal entries | as others |
    | K = 2 | max y ≥ ½: every query is genuine for τ < ½ |
    | ν = 0 | the mean of y and f̂ for every query |

    Attributes:
        logits_fn: the misinforming network, `logits_fn(params, image) -> (K,)`; static.
        params: its parameters.
        tau: threshold τ ∈ [0, 1] (published: CIFAR-10 0.7, CIFAR-100 0.4, CUB-200 0.3, Caltech-256 0.25); a leaf.
        nu: sharpness 0 ≤ ν ≤ 1e15; a leaf.

    Raises:
        ValueError: for τ or ν out of range; at the first call for a network with another number of classes.
    """

    logits_fn: LogitsFn = dataclasses.field(metadata={"static": True})
    params: Params
    tau: jax.Array | float
    nu: jax.Array | float = 1000.0

    card = Card("adaptive misinformation", Strength("tau", 0.0, 1.0), {"tau": 0.7}, trained=True, exposed=True)
    random = False
    reads_image = True

    def __post_init__(self) -> None:
        """Check the parameters where they are known."""
        check_range("tau", self.tau, low=0, high=1)
        check_range("nu", self.nu, low=0, high=1e15)

    @classmethod
    def fitted(cls, defender: Defender, *, tau: jax.Array | float = 0.7, epochs: int = 2) -> "AdaptiveMisinformation":
        """Train the misinforming network for a victim.

        Args:
            defender: the victim and its data.
            tau: τ; 0.7 is published for CIFAR-10, none for MNIST.
            epochs: passes over the victim's data, at least 1.
        """
        loss = MisinformationLoss(defender.recipe.augment)
        network = defender.network
        return cls(network, train_network(defender, "misinformation", network, loss, epochs, {"epochs": epochs}), tau)

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> None:
        """Nothing: the misinforming network is the defender's."""
        del key, network, image_shape

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        # Taken as given: ν magnifies the rounding of a normalisation.
        confidence = jnp.max(probs)
        probs = simplex.working(probs)
        wrong = posterior(self.logits_fn, self.params, query.image).astype(probs.dtype)
        check_classes(wrong.shape[-1], probs.shape[-1])
        share = doubt(confidence.astype(probs.dtype), self.tau, self.nu)
        return (1 - share) * probs + share * wrong


def doubt(confidence: jax.Array, tau: jax.Array | float, nu: jax.Array | float) -> jax.Array:
    """α = 1/(1 + exp(ν (max y − τ))): 0 where the victim is confident, 1 where it is not."""
    return jax.nn.sigmoid(nu * (tau - confidence)).astype(confidence.dtype)


def loss(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Loss that teaches a network to avoid the label: −log(1 − f̂_label + 1e-7), of one image.

    Args:
        logits: of f̂, (K,).
        label: the true class, a whole number.

    Returns:
        A scalar, from 0 (the label is never predicted) to 16.1 (always), in nats.
    """
    avoided = jnp.arange(logits.shape[-1]) == label
    # 1 − f̂_label as the sum of the others: it does not cancel.
    others = jnp.sum(jnp.where(avoided, 0, jax.nn.softmax(logits)))
    return -jnp.log(others + 1e-7)


@dataclasses.dataclass(frozen=True)
class MisinformationLoss:
    """Teaches the misinforming network to avoid the label, for `pp_jax.training.fit`: the mean of `loss` over a batch.

    L = −(1/B) Σ_b log(1 − f̂(x_b)_label + 1e-7)

    The label of a soft target is its argmax; unlabelled images are not looked at.

    Attributes:
        augment: (key, image) to image; hashable.
    """

    augment: Augmentation | None = None

    def __call__(
        self, network: Trainable, params: Params, images: jax.Array, targets: jax.Array, unlabelled: Any, key: Any
    ) -> tuple[jax.Array, Params]:
        """The loss, and the parameters with their batch statistics."""
        del unlabelled
        logits, updated = network.train(params, augmented(key, images, self.augment))
        labels = jnp.argmax(targets, axis=-1) if targets.ndim == 2 else targets
        return jnp.mean(jax.vmap(loss)(logits, labels)), updated
