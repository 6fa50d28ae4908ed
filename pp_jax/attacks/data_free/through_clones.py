"""Guides that ask the clones, whose gradients are known, in place of the victim: no query goes to the generator."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pp_jax._checks import check_count, check_range
from pp_jax.attacks.data_free.guides import Carry, Logits, Studio
from pp_jax.attacks.data_free.shapes import random_shapes
from pp_jax.models.generator import Discriminator, pixels


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """Maximise how much M ≥ 2 clones contradict each other, and the balance of the classes that they see.

    L = −mean_{b,k} std_M(p_mbk) + λ Σ_k α_k log α_k, with the mean posterior α over clones and images; the standard
    deviation divides by M − 1.

    Attributes:
        diversity: λ, at least 0.

    Raises:
        ValueError: for a negative weight.

    Source: DisGUIDE (Rosenthal et al. 2023).
    """

    diversity: float = 0.2

    labels = True
    clones = 2
    extra = 0

    def __post_init__(self) -> None:
        """Check the weight."""
        check_range("diversity", self.diversity, low=0, high=float("inf"))

    def steps(self, batches: int) -> int:
        """One."""
        del batches
        return 1

    def start(self, key: jax.Array, studio: Studio) -> Carry:
        """A fresh generator."""
        return studio.start(key)

    def compose(self, key: jax.Array, studio: Studio, carry: Carry, logits: Logits) -> jax.Array:
        """Images of the generator as it is."""
        del logits
        return studio.images(carry.params, jax.random.split(key)[0])

    def learn(
        self, key: jax.Array, studio: Studio, carry: Carry, logits: Logits, images: jax.Array, answers: jax.Array
    ) -> Carry:
        """One step down L, on noise of its own."""
        del images, answers
        noise = studio.noise(jax.random.split(key)[1])[0]
        gradient = jax.grad(lambda params: self.loss(_made(studio, params, noise, logits)))(carry.params)
        return studio.moved(carry, gradient)

    def loss(self, logits: jax.Array) -> jax.Array:
        """L of logits (M, B, K)."""
        p = jax.nn.softmax(logits)
        # The derivative of a standard deviation is infinite where the clones agree exactly.
        spread = jnp.sqrt(p.var(axis=0, ddof=1) + 1e-12)
        return self.diversity * balance(p) - jnp.mean(spread)


@dataclasses.dataclass(frozen=True)
class Adversarial:
    """Make images that a discriminator takes for some of a stand-in set, with all classes among them.

    L = −mean log D(x) + λ Σ_k α_k log α_k, α the clone's mean posterior; the discriminator learns beside it. The
    stand-in images are drawn, not owned: overlapping rectangles and discs in random shades (`random_shapes`). Half of
    the clones' images are such, half the generator's.

    Attributes:
        diversity: λ, at least 0; published: 500 for 10 classes, 100 for 100.
        discriminator: the network.
        rate: of the discriminator's Adam (β₁ = 0.5), above 0.

    Raises:
        ValueError: for a number out of range.

    Source: DFMS-HL (Sanyal et al. 2022), whose generator and clone are trained one after the other before they
    alternate; here they alternate from the start.
    """

    diversity: float = 500.0
    discriminator: Discriminator = Discriminator()  # noqa: RUF009
    rate: float = 2e-4

    labels = True
    clones = 1
    extra = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_range("diversity", self.diversity, low=0, high=float("inf"))
        check_range("rate", self.rate, low=0, high=float("inf"), open_low=True)

    def steps(self, batches: int) -> int:
        """One for each batch of the clones."""
        return batches

    def start(self, key: jax.Array, studio: Studio) -> Carry:
        """A fresh generator and discriminator."""
        generator_key, other_key = jax.random.split(key)
        other = self.discriminator.init(other_key, studio.shape)
        return studio.start(generator_key)._replace(other=(other, self._optimizer.init(other)))

    def compose(self, key: jax.Array, studio: Studio, carry: Carry, logits: Logits) -> jax.Array:
        """Every other image is the generator's."""
        del logits
        noise_key, shape_key, _ = jax.random.split(key, 3)
        made = studio.images(carry.params, noise_key)
        drawn = random_shapes(shape_key, studio.shape, len(made) // 2)
        return made.at[1::2].set(drawn)

    def learn(
        self, key: jax.Array, studio: Studio, carry: Carry, logits: Logits, images: jax.Array, answers: jax.Array
    ) -> Carry:
        """A step of the discriminator and one of the generator for each batch."""
        del images, answers
        noise_key, shape_key = jax.random.split(jax.random.split(key, 3)[2])

        def step(carry: Carry, now: tuple[jax.Array, jax.Array]) -> tuple[Carry, None]:
            noise, key = now
            carry = self._judged(key, studio, carry, noise)
            gradient = jax.grad(lambda params: self._loss(studio, params, carry.other[0], noise, logits))(carry.params)
            return studio.moved(carry, gradient), None

        keys = jax.random.split(shape_key, studio.batches)
        return jax.lax.scan(step, carry, (studio.noise(noise_key), keys))[0]

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        """Of the discriminator."""
        return optax.adam(self.rate, b1=0.5)

    def _judged(self, key: jax.Array, studio: Studio, carry: Carry, noise: jax.Array) -> Carry:
        """After a step of the discriminator."""
        real = random_shapes(key, studio.shape, studio.size)
        fake = pixels(studio.activations(carry.params, noise))

        def loss(params: Any) -> jax.Array:
            true, false = self.discriminator(params, real), self.discriminator(params, fake)
            return -jnp.mean(jax.nn.log_sigmoid(true)) - jnp.mean(jax.nn.log_sigmoid(-false))

        params, state = carry.other
        change, state = self._optimizer.update(jax.grad(loss)(params), state, params)
        return carry._replace(other=(optax.apply_updates(params, change), state))

    def _loss(self, studio: Studio, params: Any, other: Any, noise: jax.Array, logits: Logits) -> jax.Array:
        """L."""
        images = pixels(studio.activations(params, noise))
        fooled = -jnp.mean(jax.nn.log_sigmoid(self.discriminator(other, images)))
        return fooled + self.diversity * balance(jax.nn.softmax(logits(images)))


@dataclasses.dataclass(frozen=True)
class Synthesis:
    """Make, before anything is asked, images that the clone is sure are of given classes, each as many.

    A fresh generator every round takes some steps down L = CE(F(x_b), b mod K) + λ mean_{b,k} p_bk log p_bk on fixed
    noise; what it made when L was smallest is queried, once.

    Attributes:
        rounds: steps, at least 1; published 30 for MNIST and 5 for CIFAR-10.
        entropy: λ, at least 0.

    Raises:
        ValueError: for a number out of range.

    Source: IDEAL (Zhang et al. 2023), whose released code also crops and flips what the clone sees; here it does not.
    """

    rounds: int = 30
    entropy: float = 5.0

    labels = True
    clones = 1
    extra = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_count("rounds", self.rounds, low=1)
        check_range("entropy", self.entropy, low=0, high=float("inf"))

    def steps(self, batches: int) -> int:
        """All of a batch: every batch begins afresh."""
        del batches
        return self.rounds

    def start(self, key: jax.Array, studio: Studio) -> Carry:
        """Replaced before it is used."""
        return studio.start(key)

    def compose(self, key: jax.Array, studio: Studio, carry: Carry, logits: Logits) -> jax.Array:
        """The best images of a fresh generator, batch by batch."""
        del carry
        images = jax.lax.map(lambda key: self._synthesised(key, studio, logits), jax.random.split(key, studio.batches))
        return images.reshape(-1, *studio.shape)

    def learn(
        self, key: jax.Array, studio: Studio, carry: Carry, logits: Logits, images: jax.Array, answers: jax.Array
    ) -> Carry:
        """Nothing: it is thrown away."""
        del key, studio, logits, images, answers
        return carry

    def loss(self, logits: jax.Array) -> jax.Array:
        """L of logits (1, B, K)."""
        z = logits[0]
        wanted = jnp.arange(len(z)) % z.shape[1]
        p = jax.nn.log_softmax(z)
        certain = optax.softmax_cross_entropy_with_integer_labels(z, wanted)
        return jnp.mean(certain) + self.entropy * jnp.mean(jnp.exp(p) * p)

    def _synthesised(self, key: jax.Array, studio: Studio, logits: Logits) -> jax.Array:
        """The best images of one batch, (size, H, W, C)."""
        start_key, noise_key = jax.random.split(key)
        noise = studio.noise(noise_key)[0]

        def loss(params: Any) -> tuple[jax.Array, jax.Array]:
            images = pixels(studio.activations(params, noise))
            return self.loss(logits(images)), images

        def step(now: Any, _: None) -> tuple[Any, None]:
            carry, least, best = now
            (value, images), gradient = jax.value_and_grad(loss, has_aux=True)(carry.params)
            best = jnp.where(value < least, images, best)
            return (studio.moved(carry, gradient), jnp.minimum(value, least), best), None

        first = studio.start(start_key), jnp.inf, jnp.zeros((studio.size, *studio.shape))
        return jax.lax.scan(step, first, None, length=self.rounds)[0][2]


def balance(probs: jax.Array) -> jax.Array:
    """Σ_k α_k log α_k ≥ −log K of the mean posterior α of (M, B, K): least where all classes are equally likely."""
    mean = probs.mean(axis=(0, 1))
    return jnp.sum(mean * jnp.log(mean + 1e-12))


def _made(studio: Studio, params: Any, noise: jax.Array, logits: Logits) -> jax.Array:
    """The clones' logits for what a generator makes of noise, (M, B, K)."""
    return logits(pixels(studio.activations(params, noise)))
