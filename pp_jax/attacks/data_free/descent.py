"""Optimisers whose learning rate falls along the budget."""

import dataclasses

import optax

from pp_jax._checks import check_range
from pp_jax.training.recipe import Rule


@dataclasses.dataclass(frozen=True)
class Descent:
    """SGD with momentum, or another rule, and how its learning rate falls while the budget is spent.

    Attributes:
        rate: the first learning rate, above 0.
        momentum: of SGD.
        weight_decay: L2 penalty, added to the gradient.
        rule: another optimiser, `rule(rate)`, such as `optax.adam`; `momentum` plays no part.
        falls: shares of the budget at which the rate falls by `factor`.
        factor: of the falls.
        cosine: let the rate fall to 0 as half a cosine, in place of the falls.

    Raises:
        ValueError: for a number out of range.
    """

    rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    rule: Rule | None = None
    falls: tuple[float, ...] = ()
    factor: float = 0.3
    cosine: bool = False

    def __post_init__(self) -> None:
        """Check every number."""
        check_range("rate", self.rate, low=0, high=float("inf"), open_low=True)
        check_range("momentum", self.momentum, low=0, high=1)
        check_range("weight_decay", self.weight_decay, low=0, high=float("inf"))
        check_range("factor", self.factor, low=0, high=1)
        for share in self.falls:
            check_range("falls", share, low=0, high=1)

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """The optax transformation for so many steps in all."""
        rate: optax.ScalarOrSchedule = self.rate
        if self.cosine:
            rate = optax.cosine_decay_schedule(self.rate, max(1, steps))
        elif self.falls:
            rate = optax.piecewise_constant_schedule(
                self.rate, {int(share * steps): self.factor for share in self.falls}
            )
        rule = optax.sgd(rate, momentum=self.momentum or None) if self.rule is None else self.rule(rate)
        return optax.chain(optax.add_decayed_weights(self.weight_decay), rule) if self.weight_decay else rule
