"""Adversarial training: a network that is trained on the examples that evade it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pp_jax.attacks.evasion.gradient import PGD, Evasion
from pp_jax.training import Trainable
from pp_jax.training.losses import one_hot, soft_cross_entropy
from pp_jax.types import Params

_MADRY = PGD(0.3, 0.01)


@dataclasses.dataclass(frozen=True)
class AdversarialCrossEntropy:
    """A loss for `training.fit`: the cross-entropy at the images that the attack makes of the batch.

    L = −(1/B) Σ_b Σ_k ỹ_bk log F(x'_b; w)_k,   x'_b = attack(x_b, argmax ỹ_b; w), a constant of the gradient

    The attack sees the network in inference mode. A defender trains its victim so; an attacker that wants the victim's
    robustness as well trains its stolen model so, on the responses.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.

    Attributes:
        attack: an untargeted `Evasion`, hashable: its numbers are Python's, not arrays.
        weight: of the adversarial images, in (0, 1]; the rest is the loss at the images as they are (published: 1).

    Raises:
        ValueError: for a targeted attack, or a weight out of range.
    """

    attack: Evasion = _MADRY
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Check the attack and the weight."""
        if self.attack.targeted:
            raise ValueError("attack is targeted: must leave the label; write targeted=False")
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight is {self.weight}: must be above 0 and at most 1")

    def classes(self, outputs: int) -> int:
        """All outputs."""
        return outputs

    def __call__(
        self, network: Trainable, params: Params, images: jax.Array, targets: jax.Array, unlabelled: Any, key: Any
    ) -> tuple[jax.Array, Params]:
        """The loss, and the parameters with the batch statistics of the last images that were looked at."""
        del unlabelled
        fixed: Any = jax.lax.stop_gradient(params)
        labels = targets if targets.ndim == 1 else jnp.argmax(targets, axis=-1)
        keys = jax.random.split(key, len(images))
        logits_fn: Any = network
        attacked = jax.vmap(lambda key, image, label: self.attack(key, logits_fn, fixed, image, label))
        logits, updated = network.train(params, jax.lax.stop_gradient(attacked(keys, images, labels)))
        loss = soft_cross_entropy(logits, one_hot(targets, logits))
        if self.weight == 1:
            return loss, updated
        clean, updated = network.train(updated, images)
        return self.weight * loss + (1 - self.weight) * soft_cross_entropy(clean, one_hot(targets, clean)), updated
