"""FGSM, PGD and noise beside them: adversarial examples by the gradient of a network that the attacker has."""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from pp_jax._checks import check_count, check_range
from pp_jax.attacks.evasion.balls import Ball
from pp_jax.attacks.evasion.steps import LINF, direction_towards, floating, margin, stepped
from pp_jax.pytree import pytree
from pp_jax.types import LogitsFn, Params

_STATIC: dict[str, Any] = {"static": True}


class Evasion(Protocol):
    """A rule that makes an adversarial example of one image: a frozen dataclass registered as a pytree."""

    @property
    def targeted(self) -> bool:
        """Whether `label` is the class to reach; else it is the class to leave."""

    def __call__(
        self, key: jax.Array, logits_fn: LogitsFn, params: Params, image: jax.Array, label: jax.Array, /
    ) -> jax.Array:
        """Return the adversarial example (H, W, C), floating point in [0, 1].

        Args:
            key: randomness of this image alone.
            logits_fn: the network whose gradients are taken.
            params: its parameters.
            image: (H, W, C), uint8 or floating point in [0, 1].
            label: a class index.
        """


@pytree
@dataclasses.dataclass(frozen=True)
class FGSM:
    """One step of length r, up the loss at the label, or down the loss at the target.

    x' = clip(x + r · s(∇_x CE(F(x), y)), 0, 1),   s = sign for the L∞ ball, v/‖v‖₂ for the L2 ball

    A pixel without a gradient stays. The gradient is that of the log-odds of y, which points the same way but does not
    vanish where the network is certain (see `steps.log_odds`).

    Source: Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015 (r = 0.25 on
        MNIST).

    Attributes:
        radius: r, in pixel units; for L2 and L1 the norm over the whole image.
        targeted: whether to reach the label in place of leaving it; static.
        ball: the norm; static.

    Raises:
        ValueError: for a radius that is not above 0.
    """

    radius: jax.Array | float = 0.25
    targeted: bool = dataclasses.field(default=False, metadata=_STATIC)
    ball: Ball = dataclasses.field(default=LINF, metadata=_STATIC)

    def __post_init__(self) -> None:
        """Check the radius."""
        check_range("radius", self.radius, low=0, high=float("inf"), open_low=True)

    def __call__(
        self, key: jax.Array, logits_fn: LogitsFn, params: Params, image: jax.Array, label: jax.Array, /
    ) -> jax.Array:
        """Return the adversarial example, (H, W, C)."""
        del key
        image = floating(image)
        towards = direction_towards(logits_fn, params, image, label)
        return stepped(image, towards if self.targeted else -towards, self.radius, ball=self.ball)


@pytree
@dataclasses.dataclass(frozen=True)
class RandomSigns:
    """Every pixel r up or down at random: what a change of FGSM's size does without a gradient.

    Attributes:
        radius: r, in pixel units.

    Raises:
        ValueError: for a radius that is not above 0.
    """

    radius: jax.Array | float = 0.25
    targeted = False

    def __post_init__(self) -> None:
        """Check the radius."""
        check_range("radius", self.radius, low=0, high=float("inf"), open_low=True)

    def __call__(
        self, key: jax.Array, logits_fn: LogitsFn, params: Params, image: jax.Array, label: jax.Array, /
    ) -> jax.Array:
        """Return the changed image, (H, W, C); the network and the label are not looked at."""
        del logits_fn, params, label
        image = floating(image)
        return stepped(image, jax.random.rademacher(key, image.shape, image.dtype), self.radius)


@pytree
@dataclasses.dataclass(frozen=True)
class PGD:
    """Projected gradient steps from random starts in the ball; the best of the restarts.

    x ← Π(clip(x + α · s(∇_x CE(F(x), y)), 0, 1)),   Π onto the ball of radius r around x⁰

    `steps` times; of the restarts the one that ends with the smallest margin of the label is returned (the largest of
    the target). What is returned is within r of x⁰ and within [0, 1] after every step: clipping cannot leave a ball
    around a point of the box, and the projection cannot leave the box.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018 (MNIST: r = 0.3,
        α = 0.01, 40 steps in training; 100 steps and 20 restarts in evaluation).

    Attributes:
        radius: r, in pixel units; for L2 and L1 the norm over the whole image.
        step_size: α, a length in the ball's norm; 2.5 r / steps by default, so that the whole ball can be reached.
        steps: how many; static.
        restarts: how many, each from a start of its own; static.
        random_start: whether to start at a random point of the ball, else at the image; static.
        targeted: whether to reach the label in place of leaving it; static.
        ball: the norm; static.

    Raises:
        ValueError: for counts below 1, lengths that are not above 0, or several restarts from the image itself.
    """

    radius: jax.Array | float = 0.3
    step_size: jax.Array | float | None = None
    steps: int = dataclasses.field(default=40, metadata=_STATIC)
    restarts: int = dataclasses.field(default=1, metadata=_STATIC)
    random_start: bool = dataclasses.field(default=True, metadata=_STATIC)
    targeted: bool = dataclasses.field(default=False, metadata=_STATIC)
    ball: Ball = dataclasses.field(default=LINF, metadata=_STATIC)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_range("radius", self.radius, low=0, high=float("inf"), open_low=True)
        if self.step_size is not None:
            check_range("step_size", self.step_size, low=0, high=float("inf"), open_low=True)
        check_count("steps", self.steps, low=1)
        check_count("restarts", self.restarts, low=1)
        if self.restarts > 1 and not self.random_start:
            raise ValueError(f"restarts is {self.restarts}: must be 1 without random_start, as all would be the same")

    def __call__(
        self, key: jax.Array, logits_fn: LogitsFn, params: Params, image: jax.Array, label: jax.Array, /
    ) -> jax.Array:
        """Return the adversarial example, (H, W, C)."""
        start = floating(image)
        if self.restarts == 1:
            return self._once(key, logits_fn, params, start, label)
        keys = jax.random.split(key, self.restarts)
        found = jax.vmap(lambda key: self._once(key, logits_fn, params, start, label))(keys)
        margins = jax.vmap(lambda image: margin(logits_fn, params, image, label))(found)
        return found[jnp.argmax(margins if self.targeted else -margins)]

    def _once(self, key: jax.Array, logits_fn: LogitsFn, params: Params, start: jax.Array, label: Any) -> jax.Array:
        """The end of one restart."""
        first = start
        if self.random_start:
            first = jnp.clip(self.ball.draw(key, start, self.radius), 0, 1).astype(start.dtype)
        step_size = 2.5 * self.radius / self.steps if self.step_size is None else self.step_size
        return descend(
            logits_fn, params, start, label, first=first, step_size=step_size, radius=self.radius, steps=self.steps,
            targeted=self.targeted, ball=self.ball,
        )  # fmt: skip


def descend(
    logits_fn: LogitsFn,
    params: Params,
    start: jax.Array,
    label: Any,
    *,
    first: jax.Array,
    step_size: jax.Array | float,
    radius: jax.Array | float,
    steps: int,
    targeted: bool,
    ball: Ball = LINF,
) -> jax.Array:
    """Steps from `first`, away from a class or towards it, each projected onto the ball around `start`; the last image.

    Args:
        logits_fn: the network whose gradients are taken.
        params: its parameters.
        start: centre of the ball, (H, W, C), floating point in [0, 1].
        label: the class.
        first: where the steps begin, in ball and box.
        step_size: of each step, in the ball's norm.
        radius: of the ball.
        steps: how many.
        targeted: towards the class, else away from it.
        ball: the norm.
    """

    def step(_: int, image: jax.Array) -> jax.Array:
        towards = direction_towards(logits_fn, params, image, label)
        image = stepped(image, towards if targeted else -towards, step_size, ball=ball)
        return ball.project(image, start, radius).astype(start.dtype)

    return jax.lax.fori_loop(0, steps, step, first)
