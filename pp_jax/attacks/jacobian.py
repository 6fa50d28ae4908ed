"""Jacobian-based augmentation (Papernot et al. 2017; Juuti et al. 2019): JBDA, JB-self, JB-top-k and JBDA-TR."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from pp_jax._checks import as_pixels, check_count, check_random_key, check_rows
from pp_jax.attacks.augment import Move, RandomTargets, SignedGradient, TargetedPGD, moved
from pp_jax.attacks.stages import check_complete
from pp_jax.training import Recipe, Trainable, fit
from pp_jax.training.losses import supervised_by
from pp_jax.types import LogitsFn

SUBSTITUTE = Recipe(epochs=20, batch_size=64, learning_rate=0.1, momentum=0.9)
"""How the attacker's model is trained in every round, as published."""


class Substitute(Trainable, LogitsFn, Protocol):
    """A network that can be trained and asked for logits, as those of `pp_jax.models`; hashable."""


@dataclasses.dataclass(frozen=True, eq=False)
class Round:
    """The questions of a round, worked out when the first of them is wanted: none is prepared that no budget reaches.

    Attributes:
        size: how many.
        make: returns them, (size, H, W, C), always the same.
    """

    size: int
    make: Callable[[], np.ndarray]

    @functools.cached_property
    def questions(self) -> np.ndarray:
        """The images to query."""
        return self.make()


class JacobianState(NamedTuple):
    """What the attacker knows.

    Attributes:
        key: randomness of the rounds to come.
        number: ρ, of augmentation rounds that went before; the seeds are asked about before round 0.
        round: what is being asked.
        position: how many questions of it were answered.
        images: all that was asked about so far, in parts, (·, H, W, C) each.
        answers: the responses, in the same parts, (·, K) each.
    """

    key: jax.Array
    number: int
    round: Round
    position: int
    images: tuple[np.ndarray, ...]
    answers: tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class JacobianAugmentation:
    """Ask about a few seed images, then about images moved by the gradients of a model trained on the responses so far.

    Round ρ = 0, 1, …: train a fresh substitute F_A on all images and responses told; draw `reservoir` of these images
    without replacement (all of them while ρ < `reservoir_after`); ask about `move` of each. Images are float32 in
    [0, 1]; what enters the transfer set is what was asked, and nothing told is ever changed. A move that clipping or a
    vanishing gradient leaves without effect is asked like any other: it costs a query.

    The cost is the training: `recipe.epochs` passes over everything told, every round. A budget of B questions takes
    about B/κM rounds, M the images that `move` makes of one, and so epochs·B²/2κM image steps: 60 million for JBDA
    with the published settings and B = 50 000.

    Source: Papernot et al. (2017), Juuti et al. (2019), as set up by Orekondy et al. (2020).

    Attributes:
        network: the substitute's architecture; None where `evaluate` fills in the attacker's.
        move: the rule that makes new images of one image.
        recipe: how a substitute is trained.
        seed_size: images of the pool to begin with.
        reservoir: κ, how many images are moved in a round.
        reservoir_after: σ, how many rounds move all images instead.
        batch_size: images per `ask`; the last batch of a round may be smaller.
        chunk_size: new images made at once on the device, to bound memory. More may suit an accelerator; a CPU slows
            down once their activations outgrow its caches.

    Raises:
        ValueError: for a number out of range.
    """

    network: Substitute | None
    move: Move
    _: dataclasses.KW_ONLY
    recipe: Recipe = SUBSTITUTE
    seed_size: int = 100
    reservoir: int = 400
    reservoir_after: int = 3
    batch_size: int = 500
    chunk_size: int = 64

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_count("reservoir_after", self.reservoir_after, low=0)
        for name in ("seed_size", "reservoir", "batch_size", "chunk_size"):
            check_count(name, getattr(self, name), low=1)

    def completed(self, *, network: Any = None, recipe: Any = None, budget: Any = None) -> JacobianAugmentation:
        """The same with the attacker's network where it has none; its recipe is its own."""
        del recipe, budget
        return self if self.network is not None else dataclasses.replace(self, network=network)

    def capacity(self, pool_size: int) -> float:
        """No end of questions: they are made, not found."""
        del pool_size
        return float("inf")

    def init(self, key: jax.Array, pool: Any) -> JacobianState:
        """Draw the seeds from the pool, (N, H, W, C), uint8 or floating point in [0, 1].

        Raises:
            ValueError: for a pool that does not hold as many images, or holds other than pixels.
        """
        check_random_key(key)
        check_complete(self, ("network",))
        pool = as_pixels(pool, "pool")
        if len(pool) < self.seed_size:
            raise ValueError(f"the pool must hold at least seed_size={self.seed_size} images, not {len(pool)}")
        seed_key, key = jax.random.split(key)
        seeds = _floating(pool[_draw(seed_key, len(pool), self.seed_size)])
        return JacobianState(key, 0, Round(self.seed_size, lambda: seeds), 0, (), ())

    def ask(self, state: JacobianState) -> np.ndarray:
        """Return the next images of the round, (B, H, W, C); the first `ask` of a round trains the substitute."""
        return state.round.questions[state.position : state.position + self.batch_size]

    def tell(self, state: JacobianState, images: Any, answers: Any) -> JacobianState:
        """Add what was answered; after the last question of a round, begin the next."""
        check_rows(answers)
        images, answers = np.asarray(images)[: len(answers)], np.asarray(answers)
        state = state._replace(
            position=state.position + len(answers),
            images=(*state.images, images),
            answers=(*state.answers, answers),
        )
        return state if state.position < state.round.size else self._advanced(state)

    def _advanced(self, state: JacobianState) -> JacobianState:
        """The state at the beginning of the next round."""
        images, answers = np.concatenate(state.images), np.concatenate(state.answers)
        sources = len(images) if state.number < self.reservoir_after else min(self.reservoir, len(images))
        key = jax.random.fold_in(state.key, state.number)
        make = functools.partial(self._augmented, key, images, answers, sources, state.number)
        return JacobianState(
            state.key, state.number + 1, Round(sources * self.move.copies, make), 0, (images,), (answers,)
        )

    def _augmented(
        self, key: jax.Array, images: np.ndarray, answers: np.ndarray, sources: int, number: int
    ) -> np.ndarray:
        """The questions of a round: train, draw, move."""
        assert self.network is not None
        train_key, draw_key = jax.random.split(key)
        params = fit(train_key, self.network, images, answers, self.recipe, loss=supervised_by(answers))
        drawn = _draw(draw_key, len(images), sources)
        move_key = jax.random.fold_in(draw_key, number)
        return moved(
            self.move, self.network, params, images[drawn], answers[drawn], number,
            chunk_size=self.chunk_size, key=move_key,
        )  # fmt: skip


def jbda(network: Substitute, *, step_size: float = 0.1, period: int = 5, **options: Any) -> JacobianAugmentation:
    """JBDA: up the loss at the answered class, x + λ_ρ · sign ∇_x CE(F_A(x), ŷ).

    Args:
        network: the substitute's architecture.
        step_size: λ, in pixel units.
        period: τ, rounds after which the sign flips.
        **options: of `JacobianAugmentation`.
    """
    return JacobianAugmentation(network, SignedGradient(step_size, period), **options)


def jb_self(network: Substitute, *, step_size: float = 0.1, period: int = 5, **options: Any) -> JacobianAugmentation:
    """JB-self: down the loss at the answered class, x − λ_ρ · sign ∇_x CE(F_A(x), ŷ); arguments as for `jbda`."""
    return JacobianAugmentation(network, SignedGradient(step_size, period, ascend=False), **options)


def jb_topk(network: Substitute, *, k: int = 3, **options: Any) -> JacobianAugmentation:
    """JB-top-k: towards each of the k likeliest other classes; k queries for each image that is moved.

    Args:
        network: the substitute's architecture.
        k: target classes for each image, at most K − 1.
        **options: of `JacobianAugmentation`.
    """
    return JacobianAugmentation(network, TargetedPGD(k), **options)


def jbda_tr(
    network: Substitute | None, *, k: int = 3, epsilon: float = 0.1, steps: int = 8, **options: Any
) -> JacobianAugmentation:
    """JBDA-TR: towards each of k random classes that were not answered; k queries for each image that is moved.

    Args:
        network: the substitute's architecture; None where `evaluate` fills in the attacker's.
        k: target classes for each image, at most K − 1.
        epsilon: r, no pixel moves further; a step is 1.85 r/T.
        steps: T.
        **options: of `JacobianAugmentation`; it begins with 1000 images.
    """
    move = RandomTargets(k, steps, 1.85 * epsilon / steps, epsilon)
    return JacobianAugmentation(network, move, **{"seed_size": 1000, **options})


def _draw(key: jax.Array, population: int, count: int) -> np.ndarray:
    """`count` of `population` indices without replacement, in random order."""
    # Drawn for the next power of two: one small program serves many sizes.
    scores = np.asarray(jax.random.bits(key, (1 << (population - 1).bit_length(),), "uint32"))
    return np.argsort(scores[:population], kind="stable")[:count]


def _floating(images: Any) -> np.ndarray:
    """Pixels as float32 in [0, 1]."""
    images = np.asarray(images)
    return images.astype(np.float32) / 255 if images.dtype == np.uint8 else images.astype(np.float32)
