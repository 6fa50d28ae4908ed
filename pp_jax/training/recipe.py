"""How long and how fast a network is trained."""

import dataclasses
from collections.abc import Callable

import optax

from pp_jax._checks import check_count
from pp_jax.training.augmentation import Augmentation
from pp_jax.training.privacy import Privacy

Rule = Callable[[optax.ScalarOrSchedule], optax.GradientTransformation]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """An optimiser with a step-wise decay of its learning rate; by default SGD with momentum, as in the paper.

    Attributes:
        epochs: passes over the data, at least 1.
        batch_size: images per step; what is left over at the end of an epoch is drawn anew in the next.
        learning_rate: of the first epoch.
        momentum: of SGD.
        decay_every: epochs between decays of the learning rate.
        decay: its factor.
        weight_decay: L2 penalty, added to the gradient.
        rule: another optimiser in place of SGD, `rule(learning_rate)`, such as `optax.adam`; `momentum` plays no part.
        augment: `augment(key, image) -> image` of the same shape and type, drawn anew for each image in each step, as
            those of `pp_jax.augmentation`; hashable.
        privacy: train with per-example clipping and noise, DP-SGD.

    Raises:
        ValueError: for a number out of range.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.5
    decay_every: int = 50
    decay: float = 0.1
    weight_decay: float = 0.0
    rule: Rule | None = None
    augment: Augmentation | None = None
    privacy: Privacy | None = None

    def __post_init__(self) -> None:
        """Check every number."""
        for name in ("epochs", "batch_size", "decay_every"):
            check_count(name, getattr(self, name), low=1)
        for name in ("learning_rate", "momentum", "decay", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be at least 0 and finite, not {getattr(self, name)}")

    @property
    def decays(self) -> bool:
        """Whether the learning rate changes before the last epoch has ended."""
        return self.decay_every < self.epochs

    def optimizer(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """The optax transformation; with `privacy` its input are per-example gradients."""
        rate: optax.ScalarOrSchedule = self.learning_rate
        if self.decays:
            rate = optax.exponential_decay(rate, self.decay_every * steps_per_epoch, self.decay, staircase=True)
        links = [optax.sgd(rate, momentum=self.momentum or None) if self.rule is None else self.rule(rate)]
        if self.weight_decay:
            links.insert(0, optax.add_decayed_weights(self.weight_decay))
        if self.privacy is not None:
            links.insert(0, self.privacy.aggregate())
        return optax.chain(*links)
