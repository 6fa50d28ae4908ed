"""Knockoff Nets with the adaptive strategy (Orekondy, Schiele, Fritz, CVPR 2019)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pp_jax._checks import check_count, check_random_key, check_rows
from pp_jax.attacks import policy
from pp_jax.attacks.rewards import Certainty, Diversity, Moments, Reward, no_moments, normalized_mean
from pp_jax.training import Trainable, make_step, start


class Pool(NamedTuple):
    """What does not change: the images, the tree of their classes, and all chance, drawn beforehand.

    Attributes:
        images: (N, H, W, C).
        tree: their classes.
        order: the images leaf by leaf, each leaf in random order, (N,).
        first: where each leaf begins in `order`, (A,).
        sizes: the number of images of each leaf, (A,).
        uniforms: one number in (0, 1) for every query, (N,).
    """

    images: Any
    tree: policy.Tree
    order: np.ndarray
    first: np.ndarray
    sizes: np.ndarray
    uniforms: np.ndarray


class AdaptiveState(NamedTuple):
    """What the attacker knows after the responses so far.

    Attributes:
        pool: what does not change.
        used: images asked about, a leaf, (A,).
        bandit: the policy.
        memories: of the rewards.
        moments: of the rewards.
        thief: parameters and optimiser state of the attacker, or None.
        asking: the leaves of the next batch, (B,).
    """

    pool: Pool
    used: np.ndarray
    bandit: policy.Bandit
    memories: tuple[Any, ...]
    moments: Moments
    thief: Any
    asking: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class AdaptiveKnockoff:
    """Learn, by a gradient bandit, which classes of a public pool are worth asking about.

    π = softmax(H) over the classes that have images left; an image of the class drawn is asked about, each at most
    once; the reward r of its response moves H by (r − r̄)/N_a (e_a − π). With hierarchical classes the policy walks a
    tree, a softmax over the children at every node, and every node on the path learns. One reward counts as it is,
    several by the mean of their standardised values (`pp_jax.attacks.rewards.normalized_mean`).

    Within a batch the policy is fixed when asking; the responses then count one after the other, so that a batch size
    of 1 is the published algorithm. The policy stays finite whatever the responses: one-hot, all the same, or zero.

    Attributes:
        classes: what the attacker knows of the pool: a class index of every image, (N,), or indices coarse to fine,
            (N, L); a fine index counts within its coarse class.
        rewards: objects of `pp_jax.attacks.rewards`, at least one.
        thief: the network that is trained along, one step on every batch of responses, for rewards that need it; they
            see it in training mode, as it was before that step.
        optimizer: of the attacker, on the mean loss of a batch; by default SGD with momentum 0.5 and a learning rate of
            0.1/64 a query, at most 0.1.
        batch_size: images per `ask`; the last batch of the pool may be smaller.

    Raises:
        ValueError: for classes of another shape or dtype, no reward, a reward that needs an attacker where there is
            none, a batch size below 1; by `init`, for a pool of another size; by `tell`, for responses that are not
            finite or not of the attacker's number of classes.

    Source: Orekondy et al. 2019, §4.1.
    """

    classes: Any
    _: dataclasses.KW_ONLY
    rewards: tuple[Reward, ...] = (Certainty(), Diversity())
    thief: Trainable | None = None
    optimizer: optax.GradientTransformation | None = None
    batch_size: int = 1

    def __post_init__(self) -> None:
        """Check what is known without the pool."""
        classes = np.asarray(self.classes)
        if classes.ndim not in (1, 2) or 0 in classes.shape or not np.issubdtype(classes.dtype, np.integer):
            raise ValueError(
                f"classes must be whole numbers of shape (N,) or (N, L), N ≥ 1, not {classes.dtype} of {classes.shape}"
            )
        if not self.rewards:
            raise ValueError("rewards must hold at least one reward, not ()")
        if self.thief is None and (needing := [reward for reward in self.rewards if reward.needs_thief]):
            raise ValueError(f"the reward {needing[0]} needs a thief to compare the answers with: thief=…, not None")
        check_count("batch_size", self.batch_size, low=1)

    def capacity(self, pool_size: int) -> float:
        """As many questions as there are images."""
        return pool_size

    def init(self, key: jax.Array, pool: Any) -> AdaptiveState:
        """Draw the order of the images (N, H, W, C) within each class, the attacker, and the first batch."""
        check_random_key(key)
        classes = np.asarray(self.classes)
        if len(pool) != len(classes):
            raise ValueError(f"classes must be as many as images: {len(classes)} and {len(pool)}")
        draw_key, thief_key = jax.random.split(key)
        fixed = _shuffle(draw_key, pool, classes.reshape(len(classes), -1))
        state = AdaptiveState(
            pool=fixed,
            used=np.zeros_like(fixed.sizes),
            bandit=policy.untrained(fixed.tree.levels),
            memories=tuple(reward.init() for reward in self.rewards),
            moments=no_moments(len(self.rewards)),
            thief=self._start(thief_key, np.shape(pool)[1:]),
            asking=np.zeros(0, np.int64),
        )
        return self._choose(state)

    def ask(self, state: AdaptiveState) -> Any:
        """Return the next images, (B, H, W, C); empty when every image has been asked about."""
        pool = state.pool
        places = pool.first[state.asking] + state.used[state.asking] + policy.ranks(state.asking)
        return pool.images[pool.order[places]]

    def tell(self, state: AdaptiveState, images: Any, answers: Any) -> AdaptiveState:
        """Learn from the responses (b, K) to the first b images asked about."""
        if len(answers) == 0:
            return state
        check_rows(answers)
        thief, guesses = self._train(state.thief, images[: len(answers)], answers)
        leaves = state.asking[: len(answers)]
        values, memories, moments = self._reward(state, _finite(answers), guesses)
        left = state.pool.sizes - state.used
        told = state._replace(
            used=state.used + np.bincount(leaves, minlength=len(state.used)),
            bandit=policy.learn(state.pool.tree, state.bandit, left, leaves, values),
            memories=memories,
            moments=moments,
            thief=thief,
        )
        return self._choose(told)

    def probabilities(self, state: AdaptiveState) -> np.ndarray:
        """The policy: the probability of every class (of the finest level, in lexicographic order), (A,)."""
        left = state.pool.sizes - state.used
        return policy.probabilities(state.pool.tree, state.bandit.preferences, left)

    def _choose(self, state: AdaptiveState) -> AdaptiveState:
        """Draw the classes of the next batch."""
        position = int(state.used.sum())
        uniforms = state.pool.uniforms[position : position + self.batch_size]
        left = state.pool.sizes - state.used
        return state._replace(asking=policy.draw(state.pool.tree, state.bandit.preferences, left, uniforms))

    def _reward(
        self, state: AdaptiveState, answers: np.ndarray, guesses: np.ndarray | None
    ) -> tuple[np.ndarray, tuple[Any, ...], Moments]:
        """The rewards of a batch, (b,), and what is remembered of it."""
        pairs = zip(self.rewards, state.memories, strict=True)
        values, memories = zip(*[reward(memory, answers, guesses) for reward, memory in pairs], strict=True)
        if len(values) == 1:
            return values[0], memories, state.moments
        combined, moments = normalized_mean(state.moments, np.stack(values, axis=1))
        return combined, memories, moments

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        """The one given, or the published one."""
        return self.optimizer or _published(self.batch_size)

    def _start(self, key: jax.Array, image_shape: tuple[int, ...]) -> Any:
        """Fresh parameters and optimiser state of the attacker, where a reward needs one."""
        if self.thief is None or not any(reward.needs_thief for reward in self.rewards):
            return None
        return start(key, self.thief, image_shape, self._optimizer).carry

    def _train(self, carry: Any, images: Any, answers: Any) -> tuple[Any, np.ndarray | None]:
        """The attacker after a batch, and its log-posteriors from before, (b, K)."""
        if carry is None or self.thief is None:
            return carry, None
        carry, guesses = _compiled(self.thief, self._optimizer)(carry, jnp.asarray(images), jnp.asarray(answers))
        return carry, np.asarray(guesses, np.float64)


def _shuffle(key: jax.Array, images: Any, classes: np.ndarray) -> Pool:
    """The images with their classes (N, L), each class in random order, and the chance of all draws."""
    tree = policy.grow(classes)
    # Whole numbers: the same in every process, with or without float64.
    draws, order = np.asarray(jax.random.bits(key, (2, len(classes)), jnp.uint32))
    sizes = np.bincount(tree.leaf)
    return Pool(
        images=images,
        tree=tree,
        order=np.lexsort((order, tree.leaf)),
        first=np.cumsum(sizes) - sizes,
        sizes=sizes,
        uniforms=(draws + 0.5) / 2.0**32,
    )


@functools.lru_cache(maxsize=32)
def _published(batch_size: int) -> optax.GradientTransformation:
    """The paper's optimiser; one object a batch size, so that attacks alike share one compiled step."""
    return optax.sgd(0.1 * min(batch_size / 64, 1), momentum=0.5)


@functools.lru_cache(maxsize=32)
def _compiled(network: Trainable, optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """The jitted step of the attacker; it returns what the attacker thought before."""
    step = make_step(network, optimizer)

    def run(carry: Any, images: jax.Array, answers: jax.Array) -> tuple[Any, jax.Array]:
        # The same forward pass as in the step: compiled once.
        logits, _ = network.train(carry[0], images)
        if logits.shape != answers.shape:
            raise ValueError(f"the thief knows {logits.shape[-1]} classes, the answers have {answers.shape[-1]}")
        carry, _ = step(carry, images, answers)
        return carry, jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))

    return jax.jit(run)


def _finite(answers: Any) -> np.ndarray:
    """The answers in float64.

    Raises:
        ValueError: if one is not finite.
    """
    answers = np.asarray(answers).astype(np.float64)
    if broken := int((~np.isfinite(answers)).any(axis=1).sum()):
        raise ValueError(f"answers must be finite: {broken} of {len(answers)} are not")
    return answers
