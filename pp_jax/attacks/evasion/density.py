"""Gradient descent on the discriminant, held where the other class's images are (Biggio et al. 2013)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pp_jax._checks import as_pixels, check_count, check_range
from pp_jax.attacks.evasion.balls import Ball, L1Ball, L2Ball
from pp_jax.attacks.evasion.steps import floating, margin
from pp_jax.pytree import pytree
from pp_jax.types import LogitsFn, Params

_STATIC: dict[str, Any] = {"static": True}
_UNIT = L2Ball()


@pytree
@dataclasses.dataclass(frozen=True)
class MimicryDescent:
    """Descend the discriminant g, and stay near known images of the class to be taken for.

    min_x F(x) = g(x) − (λ/n) Σ_i exp(−‖x − x_i‖₁ / h)   s.t.   ‖x − x⁰‖ ≤ r,   x ∈ [0, 1]

    g is the margin z_y − max_{k≠y} z_k of the class to leave, and minus that of a target: it is negative where the
    network is evaded. The second term, λ times a density estimate over the references x_i, draws x towards images like
    these ("mimicry"): where g is flat, or misleads where there are no data, they show a way; with λ = 0 it is the
    plain attack. Each step has length t along −∇F, and is projected onto the box and the ball. The x with the smallest
    F of all steps is returned, so that more steps never make it larger.

    The density is summed over pixels and images at once, which overflows nowhere: far references have weight 0, and
    where all have, the term is flat and g alone decides.

    Source: Biggio et al., "Evasion attacks against machine learning at test time", ECML PKDD 2013 (MNIST: L1 ball of
        5000/255 grey levels, h = 150/255, λ = 0 or 10). The paper stops where F stops falling; that a step has a fixed
        length, whatever ‖∇F‖, and that the number of steps is fixed, is this library's choice.

    Attributes:
        references: x_i, (n, H, W, C), uint8 or floating point in [0, 1]; None for λ = 0.
        radius: r, in pixel units.
        weight: λ, at least 0.
        bandwidth: h, in pixel units of the L1 norm.
        step_size: t, the L2 length of a step, in pixel units.
        steps: how many; static.
        targeted: whether to reach the label in place of leaving it; static.
        ball: the norm of the constraint; static.

    Raises:
        ValueError: for counts below 1, lengths that are not above 0, a negative weight, or a weight without references.
    """

    references: Any = None
    radius: jax.Array | float = 5000 / 255
    weight: jax.Array | float = 0.0
    bandwidth: jax.Array | float = 150 / 255
    step_size: jax.Array | float = 0.1
    steps: int = dataclasses.field(default=200, metadata=_STATIC)
    targeted: bool = dataclasses.field(default=False, metadata=_STATIC)
    ball: Ball = dataclasses.field(default=L1Ball(), metadata=_STATIC)

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("radius", "bandwidth", "step_size"):
            check_range(name, getattr(self, name), low=0, high=float("inf"), open_low=True)
        check_range("weight", self.weight, low=0, high=float("inf"))
        check_count("steps", self.steps, low=1)
        if self.references is not None:
            object.__setattr__(self, "references", as_pixels(self.references, "references"))
        elif isinstance(self.weight, float | int) and self.weight > 0:
            raise ValueError(f"weight is {self.weight:g}: must be 0 without references; give references=images")

    def __call__(
        self, key: jax.Array, logits_fn: LogitsFn, params: Params, image: jax.Array, label: jax.Array, /
    ) -> jax.Array:
        """Return the adversarial example, (H, W, C); nothing is drawn."""
        del key
        start = floating(image)
        value = jax.value_and_grad(lambda x: self._objective(logits_fn, params, x, label))

        def step(_: int, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            x, gradient, best, smallest = carry
            x = jnp.clip(x - self.step_size * _UNIT.steepest(gradient), 0, 1)
            x = self.ball.project(x, start, self.radius).astype(start.dtype)
            found, gradient = value(x)
            return x, gradient, jnp.where(found < smallest, x, best), jnp.minimum(found, smallest)

        found, gradient = value(start)
        return jax.lax.fori_loop(0, self.steps, step, (start, gradient, start, found))[2]

    def _objective(self, logits_fn: LogitsFn, params: Params, image: jax.Array, label: jax.Array) -> jax.Array:
        """F."""
        own = margin(logits_fn, params, image, label)
        discriminant = -own if self.targeted else own
        if self.references is None:
            return discriminant
        distances = jnp.sum(jnp.abs(image[None] - floating(jnp.asarray(self.references))), axis=(1, 2, 3))
        return discriminant - self.weight * jnp.mean(jnp.exp(-distances / self.bandwidth))
