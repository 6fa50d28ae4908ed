"""Rules that move an image by the attacker's own gradients, and their batched, compiled form."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_count, check_range
from pp_jax.attacks.evasion.gradient import descend
from pp_jax.attacks.evasion.steps import direction_towards, stepped
from pp_jax.pytree import pytree
from pp_jax.types import LogitsFn, Params


class Move(Protocol):
    """A rule that makes new images of one image: a frozen dataclass registered as a pytree."""

    @property
    def copies(self) -> int:
        """How many new images, M ≥ 1."""

    def __call__(
        self, logits_fn: LogitsFn, params: Params, image: jax.Array, answer: jax.Array, number: Any, key: Any, /
    ) -> jax.Array:
        """Return M new images (M, H, W, C) of `image`, whose answer (K,) is known, in round `number` (from 0).

        `key` is randomness of this image and round alone.
        """


@pytree
@dataclasses.dataclass(frozen=True)
class SignedGradient:
    """One signed step of fixed length, up or down the attacker's loss at the class that was answered.

    x' = clip(x ± λ_ρ · sign ∇_x CE(F_A(x), ŷ), 0, 1),   λ_ρ = λ·(−1)^⌊ρ/τ⌋

    ŷ is the largest entry of the response, the oracle's label. A pixel without a gradient stays.

    Source: Papernot et al. (2017), whose step along the gradient of the label's own output, sgn J_ŷ, is the downward
    one; signs and names as in Orekondy et al. (2020).

    Attributes:
        step_size: λ, in pixel units.
        period: τ, the number of rounds after which the sign flips.
        ascend: up the loss (+, JBDA) or down (−, JB-self); static.

    Raises:
        ValueError: for a step outside (0, 1], or a period below 1.
    """

    step_size: jax.Array | float = 0.1
    period: int = 5
    ascend: bool = dataclasses.field(default=True, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_range("step_size", self.step_size, low=0, high=1, open_low=True)
        check_count("period", self.period, low=1)

    @property
    def copies(self) -> int:
        """One image of each."""
        return 1

    def __call__(
        self, logits_fn: LogitsFn, params: Params, image: jax.Array, answer: jax.Array, number: Any, key: Any, /
    ) -> jax.Array:
        """Return the moved image, (1, H, W, C)."""
        del key
        down = direction_towards(logits_fn, params, image, jnp.argmax(answer))
        odd = (number // self.period) % 2 == 1
        return stepped(image, jnp.where(odd == self.ascend, down, -down), self.step_size)[None]


@pytree
@dataclasses.dataclass(frozen=True)
class TargetedPGD:
    """Projected steps towards each of the classes that the attacker finds likeliest after the one that was answered.

    x_{t+1} = clip(clip(x_t + α · sign ∇_x log F_A(x_t)_c, x_0 − r, x_0 + r), 0, 1),   t < T

    for the `classes` likeliest classes c ≠ ŷ of F_A(x_0), ŷ the largest entry of the response. The attacker ranks them,
    not the response, whose other entries a defense may have made equal.

    Source: Juuti et al. (2019); settings of Orekondy et al. (2020).

    Attributes:
        classes: how many target classes, each of which gives an image, at most K − 1; static.
        steps: T; static.
        step_size: α, in pixel units.
        radius: r, in pixel units: no pixel moves further.

    Raises:
        ValueError: for counts below 1, steps or radii outside (0, 1]; when it is used, for more classes than there are.
    """

    classes: int = dataclasses.field(default=3, metadata={"static": True})
    steps: int = dataclasses.field(default=8, metadata={"static": True})
    step_size: jax.Array | float = 0.01
    radius: jax.Array | float = 0.1

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_count("classes", self.classes, low=1)
        check_count("steps", self.steps, low=1)
        check_range("step_size", self.step_size, low=0, high=1, open_low=True)
        check_range("radius", self.radius, low=0, high=1, open_low=True)

    @property
    def copies(self) -> int:
        """One image for each target."""
        return self.classes

    def __call__(
        self, logits_fn: LogitsFn, params: Params, image: jax.Array, answer: jax.Array, number: Any, key: Any, /
    ) -> jax.Array:
        """Return the image moved towards each target, the likeliest first, (classes, H, W, C)."""
        del number
        scores = self._ranking(logits_fn(params, image), key)
        if self.classes >= len(scores):
            raise ValueError(
                f"classes must be at most K − 1 = {len(scores) - 1}, the other classes, not {self.classes}"
            )
        others = jnp.where(jnp.arange(len(scores)) == jnp.argmax(answer), -jnp.inf, scores)
        targets = jax.lax.top_k(others, self.classes)[1]

        def towards(target: jax.Array) -> jax.Array:
            return descend(
                logits_fn, params, image, target, first=image, step_size=self.step_size, radius=self.radius,
                steps=self.steps, targeted=True,
            )  # fmt: skip

        return jax.vmap(towards)(targets)

    def _ranking(self, logits: jax.Array, key: Any) -> jax.Array:
        """What ranks the classes, (K,)."""
        del key
        return logits


@pytree
@dataclasses.dataclass(frozen=True)
class RandomTargets(TargetedPGD):
    """`TargetedPGD` towards classes drawn at random, without replacement, from those that were not answered (JBDA-TR).

    Source: Juuti et al. (2019), T-RND-I-FGSM; settings of JBDA-TR, r = 0.1, T = 8 and α = 1.85 r/T, in the order in
    which `TargetedPGD` has them. All steps in one direction would lead beyond r, which cuts them off.
    """

    step_size: jax.Array | float = 1.85 * 0.1 / 8

    def _ranking(self, logits: jax.Array, key: Any) -> jax.Array:
        """Random numbers."""
        return jax.random.uniform(key, logits.shape)


def moved(
    move: Move,
    logits_fn: LogitsFn,
    params: Params,
    images: np.ndarray,
    answers: np.ndarray,
    number: int,
    *,
    chunk_size: int,
    key: jax.Array | None = None,
) -> np.ndarray:
    """Apply a rule to any number of images, a chunk at a time, by one program whatever their number.

    Args:
        move: the rule, M new images of each.
        logits_fn: the attacker's model.
        params: its parameters.
        images: (N, H, W, C), floating point in [0, 1].
        answers: (N, K).
        number: of the round, from 0.
        chunk_size: new images on the device at once, M at least; the last chunk is filled up with copies.
        key: randomness of the round, for a rule that draws.

    Returns:
        (N·M, H, W, C) on the host, those of one image together.
    """
    size, parts = max(1, chunk_size // move.copies), []
    for first in range(0, len(images), size):
        index = np.minimum(np.arange(first, first + size), len(images) - 1)
        part = _moved(move, params, images[index], answers[index], number, key, index, logits_fn=logits_fn)
        parts.append(np.asarray(part)[: len(images) - first])
    return np.concatenate(parts).reshape(-1, *images.shape[1:])


@functools.partial(jax.jit, static_argnames="logits_fn")
def _moved(
    move: Callable[..., jax.Array],
    params: Params,
    images: jax.Array,
    answers: jax.Array,
    number: Any,
    key: jax.Array | None,
    index: jax.Array,
    *,
    logits_fn: Any,
) -> jax.Array:
    """The rule over one chunk, (B, M, H, W, C); image i of all has the i-th key, whatever the chunks."""

    def one(image: jax.Array, answer: jax.Array, place: jax.Array) -> jax.Array:
        own = None if key is None else jax.random.fold_in(key, place)
        return move(logits_fn, params, image, answer, number, own)

    return jax.vmap(one)(images, answers, index)
