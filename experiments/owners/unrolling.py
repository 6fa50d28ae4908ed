"""A poison network that is trained through thieves' training: their steps of SGD, unrolled and differentiated.

As MetaPoison (Huang et al., "MetaPoison: practical general-purpose clean-label data poisoning", NeurIPS 2020) crafts
images, through students kept at all stages of their training. Here the answers are crafted, by a network that sees
posteriors alone:

    max_φ softmin_i L(labels, F(x; w_i^T)),   w_i^{t+1} = w_i^t − η ∇ CE(a_i(ỹ_φ), F(x'; w_i^t))

where thief i learns from a_i: the answers themselves, the answers sharpened in place of their argmax, or the mean
posterior behind answers so near, for a thief who has φ but not the owner's key. L is the cross-entropy, or an
error rate that has derivatives: a student who learnt ỹ has a cross-entropy of about −log ỹ_label, which says nothing of
whether another class is ahead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

Loss = Literal["cross_entropy", "error"]
Thief = Literal["soft", "sharpened", "recovered"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a poison network is trained.

    Attributes:
        epsilon: of the answers that it learns with; where it races, another may be chosen.
        noise: numbers from the owner's key that it is given for each query.
        steps: of its own optimiser.
        learning_rate: of Adam, falling to zero as a cosine.
        thieves: what the students learn from; each has students of its own.
        unrolled: T, steps of a student that are differentiated.
        plain: further steps that it makes before its next turn.
        batch_size: queries in a step of a student.
        judged: the victim's training images that a student is judged on.
        students: of every thief, in turn; their lives are staggered.
        life: steps after which a student starts anew.
        temperature: of the sharpened answers.
        softness: of the minimum over thieves, in the unit of the loss.
        loss: what harm is.
        table: posteriors that the recovering thief has poisoned, to look answers up among.
        width: of answers that are near, in L2: one standard deviation.
    """

    epsilon: float = 0.99
    noise: int = 8
    steps: int = 200
    learning_rate: float = 5e-3
    thieves: tuple[Thief, ...] = ("sharpened", "recovered")
    unrolled: int = 2
    plain: int = 1
    batch_size: int = 32
    judged: int = 64
    students: int = 4
    life: int = 400
    temperature: float = 0.1
    softness: float = 0.05
    loss: Loss = "error"
    table: int = 1024
    width: float = 0.03

    def settings(self) -> dict[str, Any]:
        """All of it, as a record has it."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    def network(self) -> Any:
        """The poison network."""
        from owners import candidates

        return candidates.PoisonNetwork(self.noise)


PLAN = Plan()


class Seen(NamedTuple):
    """What one student is shown in its turn.

    Attributes:
        images: of its queries, (T, B, H, W, C).
        probs: the victim's posteriors of them, (T, B, K).
        table: posteriors of other queries, (P, K).
        own: the victim's training images that it is judged on, (M, H, W, C).
        labels: their classes, (M,).
        key: randomness of the answers.
    """

    images: Any
    probs: Any
    table: Any
    own: Any
    labels: Any
    key: Any


def poisoned(plan: Plan, params: Any, probs: Any, key: Any) -> Any:
    """What the poison network answers for (..., K), by a key for each."""
    import jax

    from owners import candidates
    from pp_jax.types import Query

    poison = candidates.LearnedPoison(plan.network(), params, plan.epsilon)
    flat = probs.reshape(-1, probs.shape[-1])
    keys = jax.random.split(key, len(flat))
    return jax.vmap(lambda k, y: poison(y, Query(y, k)))(keys, flat).reshape(probs.shape)


def recovered(plan: Plan, answers: Any, table: tuple[Any, Any]) -> Any:
    """The mean posterior of a table that was answered nearly so: partial Bayes, with derivatives.

    ŷ = Σ_j w_j y_j/Σ_j w_j,   w_j = exp(−‖ỹ − ỹ_j‖₂²/2h²)

    Args:
        plan: of the training.
        answers: ỹ, (..., K).
        table: posteriors y_j, (P, K), and their answers ỹ_j, (P, K).
    """
    import jax
    import jax.numpy as jnp

    clean, seen = table
    flat = answers.reshape(-1, answers.shape[-1])
    apart = jnp.sum((flat[:, None, :] - seen[None, :, :]) ** 2, axis=-1)
    return (jax.nn.softmax(-apart / (2 * plan.width**2)) @ clean).reshape(answers.shape)


def lessons(plan: Plan, answers: Any, table: tuple[Any, Any]) -> Any:
    """What each thief learns from answers (..., K): (thieves, ..., K)."""
    import jax
    import jax.numpy as jnp

    ways: dict[Thief, Callable[[], Any]] = {
        "soft": lambda: answers,
        # Entries of zero have logarithms without a derivative.
        "sharpened": lambda: jax.nn.softmax(jnp.log(answers + 1e-6) / plan.temperature),
        "recovered": lambda: recovered(plan, answers, table),
    }
    return jnp.stack([ways[thief]() for thief in plan.thieves])


def answered(plan: Plan, params: Any, probs: Any, table: Any, key: Any) -> Any:
    """What each thief learns where the victim has posteriors (..., K): (thieves, ..., K)."""
    import jax

    own, other = jax.random.split(key)
    return lessons(plan, poisoned(plan, params, probs, own), (table, poisoned(plan, params, table, other)))


def harm(plan: Plan, network: Any, params: Any, students: Any, seen: Seen, recipe: Any) -> Any:
    """The softmin over thieves of their loss after T steps on poisoned answers.

    Args:
        plan: of the training.
        network: of the students.
        params: φ.
        students: parameters and state of the optimiser, of one student of each thief; a leading axis.
        seen: what they are shown.
        recipe: the thieves'.

    Returns:
        The softmin, −s log mean exp(−L_i/s), and beside it the losses (thieves,) and the students T steps on.
    """
    import jax
    import jax.numpy as jnp

    from pp_jax import training

    measures: dict[Loss, Any] = {"cross_entropy": training.soft_cross_entropy, "error": soft_error}
    step = training.make_step(network, recipe.optimizer(1))
    targets = answered(plan, params, seen.probs, seen.table, seen.key)

    def taught(student: Any, targets: Any) -> tuple[Any, Any]:
        for images, answers in zip(seen.images, targets, strict=True):
            student, _ = step(student, images, answers)
        return measures[plan.loss](network.train(student[0], seen.own)[0], seen.labels), student

    losses, students = jax.vmap(taught)(students, targets)
    least = -plan.softness * (jax.nn.logsumexp(-losses / plan.softness) - jnp.log(len(plan.thieves)))
    return least, (losses, students)


def soft_error(logits: Any, labels: Any) -> Any:
    """Mean of σ(max_{k≠label} z_k − z_label) over a batch: the error rate of logits (B, K), if they are large."""
    import jax
    import jax.numpy as jnp

    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    ahead = jnp.max(jnp.where(own, -jnp.inf, logits), axis=-1) - jnp.sum(jnp.where(own, logits, 0), axis=-1)
    return jnp.mean(jax.nn.sigmoid(ahead))
