"""What guides a generator towards images that are worth a query: one contract, and the zeroth-order way of meeting it.

A guide is asked for the images of a round, and told what became of them. Everything in it is pure and runs inside two
compiled programs: one that asks, and one that learns.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from pp_jax._checks import check_count, check_range
from pp_jax.attacks.data_free.losses import Difference
from pp_jax.models.generator import Generator, pixels

Logits = Callable[[jax.Array], jax.Array]
"""Images (B, H, W, C) to the logits of every clone as it is now, (M, B, K), in inference mode."""


class Studio(NamedTuple):
    """What a guide works with, the same in every round.

    Attributes:
        generator: the network.
        optimizer: of its training.
        shape: (H, W, C) of an image.
        batches: of images for the clones in a round.
        size: images in each.
    """

    generator: Generator
    optimizer: optax.GradientTransformation
    shape: tuple[int, ...]
    batches: int
    size: int

    def start(self, key: jax.Array) -> "Carry":
        """Fresh parameters and state of the optimiser."""
        params = self.generator.init(key, self.shape)
        return Carry(params, self.optimizer.init(params))

    def noise(self, key: jax.Array) -> jax.Array:
        """z of every image of a round, (batches, size, Z)."""
        return jax.random.normal(key, (self.batches, self.size, self.generator.latent))

    def activations(self, params: Any, noise: jax.Array) -> jax.Array:
        """h of one batch, (size, H, W, C)."""
        return self.generator(params, noise, self.shape)

    def moved(self, carry: "Carry", gradient: Any) -> "Carry":
        """After a step down a gradient."""
        change, state = self.optimizer.update(gradient, carry.optimizer, carry.params)
        return carry._replace(params=optax.apply_updates(carry.params, change), optimizer=state)

    def images(self, params: Any, key: jax.Array) -> jax.Array:
        """The clones' images of a round, (batches·size, H, W, C)."""
        made = jax.lax.map(lambda noise: pixels(self.activations(params, noise)), self.noise(key))
        return made.reshape(-1, *self.shape)


class Carry(NamedTuple):
    """A generator in training.

    Attributes:
        params: its parameters.
        optimizer: state of its optimiser.
        other: what else a guide trains, such as a discriminator.
    """

    params: Any
    optimizer: Any
    other: Any = None


class Guide(Protocol):
    """How a generator learns what to make; a frozen dataclass, hashable."""

    @property
    def labels(self) -> bool:
        """Whether class indices are responses enough."""

    @property
    def clones(self) -> int:
        """Fewest clones that it needs."""

    @property
    def extra(self) -> int:
        """Queries of a round beyond the clones' images, in batches."""

    def steps(self, batches: int) -> int:
        """How many steps of the generator's optimiser a round takes."""

    def start(self, key: jax.Array, studio: Studio) -> Carry:
        """Return the generator before the first round."""

    def compose(self, key: jax.Array, studio: Studio, carry: Carry, logits: Logits) -> jax.Array:
        """Return the queries of a round, ((batches + extra)·size, H, W, C), those for the clones first."""

    def learn(
        self, key: jax.Array, studio: Studio, carry: Carry, logits: Logits, images: jax.Array, answers: jax.Array
    ) -> Carry:
        """Return the generator after the round of this key; the clones have learned from its answers already."""


@dataclasses.dataclass(frozen=True)
class ZerothOrder:
    """Maximise how much clone and victim differ, D, by a gradient that is estimated from queries.

    ∇̂ D(h) = (d/m) Σ_i [D(x(h + μu_i)) − D(x(h))]/μ · u_i, with u_i uniform on the unit sphere of R^d, d = H·W·C, for
    the pre-activations h of the last of the clones' batches; the generator follows by the chain rule. x is in [0, 1]
    whatever h is. D(x(h)) takes the answers that the clone learned from, so that a round costs N_C + m batches.

    A defense that rounds its responses, or exchanges them in jumps, leaves of so small a step nothing or noise.

    Attributes:
        difference: D; it must be meaningful for probabilities, as class indices say nothing of so small a step.
        directions: m, at least 1.
        step: μ, above 0.

    Raises:
        ValueError: for a number out of range.

    Source: MAZE (Kariyappa et al. 2021), with m = 10; DFME (Truong et al. 2021), with m = 1; both μ = 1e-3.
    """

    difference: Difference
    directions: int
    step: float = 1e-3

    labels = False
    clones = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_count("directions", self.directions, low=1)
        check_range("step", self.step, low=0, high=float("inf"), open_low=True)

    @property
    def extra(self) -> int:
        """m batches of moved images."""
        return self.directions

    def steps(self, batches: int) -> int:
        """One."""
        del batches
        return 1

    def start(self, key: jax.Array, studio: Studio) -> Carry:
        """A fresh generator."""
        return studio.start(key)

    def compose(self, key: jax.Array, studio: Studio, carry: Carry, logits: Logits) -> jax.Array:
        """The clones' images, and the last batch of them moved in every direction."""
        del logits
        noise_key, direction_key = jax.random.split(key)
        images = studio.images(carry.params, noise_key)
        last = studio.activations(carry.params, studio.noise(noise_key)[-1])
        moved = pixels(last[None] + self.step * self.unit_vectors(direction_key, studio))
        return jnp.concatenate([images, moved.reshape(-1, *studio.shape)])

    def learn(
        self, key: jax.Array, studio: Studio, carry: Carry, logits: Logits, images: jax.Array, answers: jax.Array
    ) -> Carry:
        """One step up the estimated gradient of mean D."""
        noise_key, direction_key = jax.random.split(key)
        first = (studio.batches - 1) * studio.size
        z = logits(images[first:])[0]
        found = self.difference(z, answers[first:]).reshape(1 + self.directions, studio.size)
        estimate = self.estimated(found[0], found[1:], self.unit_vectors(direction_key, studio))
        noise = studio.noise(noise_key)[-1]
        _, pull = jax.vjp(lambda params: studio.activations(params, noise), carry.params)
        (gradient,) = pull(-estimate / studio.size)
        return studio.moved(carry, gradient)

    def unit_vectors(self, key: jax.Array, studio: Studio) -> jax.Array:
        """The directions u, (m, size, H, W, C)."""
        u = jax.random.normal(key, (self.directions, studio.size, *studio.shape))
        return u / jnp.sqrt(jnp.sum(u**2, axis=(2, 3, 4), keepdims=True))

    def estimated(self, base: jax.Array, moved: jax.Array, directions: jax.Array) -> jax.Array:
        """The estimate of the gradient of D for each image, (B, …), of D(x), (B,), and D(x + μu), (m, B)."""
        slope = (moved - base[None]) / self.step
        dimensions = directions[0, 0].size
        return dimensions * jnp.mean(slope.reshape(*slope.shape, 1, 1, 1) * directions, axis=0)
