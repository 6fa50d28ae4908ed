"""Data-free stealing as a query strategy: a generator makes the queries, clones learn from the responses."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_count, check_random_key
from pp_jax.attacks.data_free.descent import Descent
from pp_jax.attacks.data_free.guides import Carry, Guide, Logits, Studio
from pp_jax.attacks.data_free.losses import Difference
from pp_jax.attacks.data_free.memory import Memory
from pp_jax.attacks.jacobian import Substitute
from pp_jax.models.generator import Generator
from pp_jax.training import Trainable, make_step
from pp_jax.training.fitting import outputs_of, start
from pp_jax.training.predicting import predict
from pp_jax.types import Params


class DataFreeState(NamedTuple):
    """What the attacker has; the next round depends on nothing else.

    Attributes:
        key: randomness of the attack.
        round: rounds that were answered.
        generator: in training.
        clones: parameters and optimiser states, every leaf with a leading axis of M clones.
        memory: what is learned from again.
        image_shape: (H, W, C) of the queries.
    """

    key: jax.Array
    round: int
    generator: Carry
    clones: Any
    memory: Memory
    image_shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class DataFree:
    """Ask about images that a generator makes; M clones learn from the responses, and the generator from the clones.

    A round asks about Q = B·(N_C + extra) images at once. Then, in one compiled program that a process traces once,
    each clone takes N_C steps on the new images and N_R on remembered ones, and the generator learns as its guide says.
    A round that is cut short, as the last of a budget may be, teaches the clones only: missing images are replaced by
    repeating those that were answered.

    It is a query strategy: `attacks.collect` runs it with every answer kept (the pool gives the shape of an image, no
    more), and `attacks.steal` without, for budgets that no memory holds.

    Attributes:
        network: of the clones, one of `pp_jax.models`, or another `Trainable` that is its own logits function.
        budget: queries in all, along which the learning rates fall.
        guide: how the generator learns.
        loss: what the clones minimise, on the mean over a batch.
        learning: the clones' optimiser.
        making: the generator's optimiser.
        generator: the network that makes images.
        clones: M.
        batch_size: B, at least 2.
        clone_steps: N_C, steps of a clone on new images in a round.
        replay_steps: N_R, steps on remembered images.
        memory: how many images are remembered; older ones are forgotten, in whole rounds.

    Raises:
        ValueError: for a number out of range, or fewer clones than the guide needs.
    """

    network: Substitute
    budget: int
    guide: Guide
    loss: Difference
    learning: Descent
    making: Descent
    generator: Generator = Generator()  # noqa: RUF009
    clones: int = 1
    batch_size: int = 256
    clone_steps: int = 5
    replay_steps: int = 0
    memory: int = 1_000_000

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, low in (("budget", 1), ("batch_size", 2), ("clone_steps", 1), ("replay_steps", 0), ("memory", 1)):
            check_count(name, getattr(self, name), low=low)
        check_count("clones", self.clones, low=self.guide.clones)

    @property
    def queries(self) -> int:
        """Q, queries of a round."""
        return self.batch_size * (self.clone_steps + self.guide.extra)

    @property
    def rounds(self) -> int:
        """How many rounds the budget is good for, the last of them perhaps cut short."""
        return math.ceil(self.budget / self.queries)

    @property
    def labels(self) -> bool:
        """Whether class indices are responses enough."""
        return self.guide.labels and self.loss.labels

    def capacity(self, pool_size: int) -> float:
        """Without end: images are made."""
        del pool_size
        return math.inf

    def init(self, key: jax.Array, pool: Any) -> DataFreeState:
        """Draw clones and generator for images of the shape of the pool's, (N, H, W, C)."""
        check_random_key(key)
        return self.begin(key, np.shape(pool)[1:])

    def begin(self, key: jax.Array, image_shape: tuple[int, ...]) -> DataFreeState:
        """The state before the first query, for images (H, W, C).

        Raises:
            ValueError: for a seed in place of a key, or a shape that the networks do not take.
        """
        check_random_key(key)
        generator, clones = _programs(self, tuple(image_shape)).begin(key)
        return DataFreeState(key, 0, generator, clones, Memory(), tuple(image_shape))

    def ask(self, state: DataFreeState) -> np.ndarray:
        """The images of the next round, (Q, H, W, C), float32 in [0, 1]."""
        program = _programs(self, state.image_shape).ask
        return np.asarray(program(state.key, state.round, state.generator, state.clones))

    def tell(self, state: DataFreeState, images: Any, answers: Any) -> DataFreeState:
        """Learn from the responses to the first images of the round.

        Raises:
            ValueError: for class indices where probabilities are compared, or another number of classes.
        """
        images = np.asarray(images)
        targets = self.targets(state, answers)
        ours = self.batch_size * self.clone_steps
        memory, replayed = state.memory, None
        if self.replay_steps:
            memory = memory.add(images[:ours], targets[:ours], capacity=self.memory)
            draw_key = jax.random.split(round_key(state.key, state.round))[1]
            replayed = memory.draw(draw_key, steps=self.replay_steps, size=self.batch_size)
        complete = len(images) == self.queries
        if not complete:
            rows = np.arange(self.queries) % min(len(images), ours)
            images, targets = images[rows], targets[rows]
        generator, clones = _programs(self, state.image_shape).learn(
            state.key, state.round, state.generator, state.clones, images, targets, replayed, complete
        )
        return state._replace(round=state.round + 1, generator=generator, clones=clones, memory=memory)

    def params(self, state: DataFreeState) -> tuple[Params, ...]:
        """The parameters of every clone."""
        leaves, structure = jax.tree.flatten(state.clones[0])
        return tuple(jax.tree.unflatten(structure, [leaf[number] for leaf in leaves]) for number in range(self.clones))

    def predict(self, state: DataFreeState, images: Any) -> np.ndarray:
        """The stolen model's posteriors, (N, K): the mean over the clones."""
        return np.mean([predict(self.network, params, images) for params in self.params(state)], axis=0)

    def targets(self, state: DataFreeState, answers: Any) -> np.ndarray:
        """Responses as what clones learn from, (b, K) float32; class indices become one-hots.

        Raises:
            ValueError: for class indices where probabilities are compared, or another number of classes.
        """
        answers = np.asarray(answers)
        classes = outputs_of(self.network, self.params(state)[0], np.empty((1, *state.image_shape), np.float32))
        if answers.ndim == 1:
            if not self.labels:
                raise ValueError(
                    f"the API answers class indices: {type(self.guide).__name__} with {type(self.loss).__name__} must "
                    "have probabilities; write dfms_hl(…), ideal(…) or disguide(…, hard_labels=True)"
                )
            if answers.min() < 0 or answers.max() >= classes:
                raise ValueError(
                    f"the API answers classes from {answers.min()} to {answers.max()}: must be from 0 to "
                    f"{classes - 1}, as the network has that many outputs"
                )
            return np.eye(classes, dtype=np.float32)[answers]
        if answers.shape[1] != classes:
            raise ValueError(
                f"the API answers {answers.shape[1]} classes: must be {classes}, the outputs of the network"
            )
        return answers.astype(np.float32)


def round_key(key: jax.Array, number: Any) -> jax.Array:
    """The randomness of a round."""
    return jax.random.fold_in(jax.random.split(key)[1], number)


class _Programs(NamedTuple):
    """The compiled parts of an attack with images of one shape."""

    begin: Callable[[jax.Array], Any]
    ask: Callable[..., jax.Array]
    learn: Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class _CloneLoss:
    """A difference as a loss of `pp_jax.training`."""

    difference: Difference

    def __call__(
        self, network: Trainable, params: Params, images: Any, targets: Any, unlabelled: Any, key: Any
    ) -> tuple[jax.Array, Params]:
        """The mean difference of a batch, and the parameters with its statistics."""
        del unlabelled, key
        logits, updated = network.train(params, images)
        return jnp.mean(self.difference(logits, targets)), updated


@functools.lru_cache(maxsize=32)
def _programs(method: DataFree, shape: tuple[int, ...]) -> _Programs:
    """One set for all attacks alike."""
    many = method.clones > 1
    network: Any = method.network.vmapped if many else method.network
    guide, per_round = method.guide, method.clone_steps + method.replay_steps
    optimizer = method.learning.optimizer(method.rounds * per_round)
    making = method.making.optimizer(method.rounds * guide.steps(method.clone_steps))
    studio = Studio(method.generator, making, shape, method.clone_steps, method.batch_size)
    step = make_step(network, optimizer, loss=_CloneLoss(method.loss))

    def each(function: Callable[..., Any], trees: Any, *shared: Any) -> Any:
        """A function of one clone, for all of them; the convolutions of a single one keep their plain form."""
        if many:
            return jax.vmap(lambda tree: function(tree, *shared))(trees)
        one = function(jax.tree.map(lambda leaf: leaf[0], trees), *shared)
        return jax.tree.map(lambda leaf: leaf[None], one)

    def logits_of(clones: Any) -> Logits:
        weights = jax.lax.stop_gradient(clones[0])
        return lambda images: each(lambda params: jax.vmap(network, (None, 0))(params, images), weights)

    def guide_key(key: jax.Array, number: Any) -> jax.Array:
        return jax.random.split(round_key(key, number))[0]

    def begin(key: jax.Array) -> Any:
        clone_key, generator_key = jax.random.split(jax.random.split(key)[0])
        clones = each(
            lambda key: start(key, network, shape, optimizer).carry, jax.random.split(clone_key, method.clones)
        )
        return guide.start(generator_key, studio), clones

    def ask(key: jax.Array, number: Any, carry: Carry, clones: Any) -> jax.Array:
        return guide.compose(guide_key(key, number), studio, carry, logits_of(clones))

    def learn(
        key: jax.Array, number: Any, carry: Carry, clones: Any, images: Any, answers: Any, replayed: Any, complete: Any
    ) -> Any:
        def learned(clones: Any, batch: Any) -> Any:
            return each(lambda clone: step(clone, *batch)[0], clones), None

        def batches(rows: Any) -> Any:
            ours = rows[: method.clone_steps * method.batch_size]
            return ours.reshape(method.clone_steps, method.batch_size, *rows.shape[1:])

        lessons = batches(images), batches(answers)
        if replayed is not None:
            lessons = jax.tree.map(lambda new, old: jnp.concatenate([new, old]), lessons, replayed)
        clones, _ = jax.lax.scan(learned, clones, lessons)
        taught = guide.learn(guide_key(key, number), studio, carry, logits_of(clones), images, answers)
        return jax.tree.map(lambda new, old: jnp.where(complete, new, old), taught, carry), clones

    return _Programs(jax.jit(begin), jax.jit(ask), jax.jit(learn))
