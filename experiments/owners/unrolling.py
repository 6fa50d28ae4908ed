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
from collections.abc import Callable, Sequence
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


class Trainer(NamedTuple):
    """The compiled parts of the training.

    Attributes:
        begin: (key) to a student of each thief.
        turn: (φ and its optimiser, students, seen) to the first two a step on, and the losses.
        advance: (φ, students, seen) to students a plain step on, with the first of what they are shown.
    """

    begin: Any
    turn: Any
    advance: Any


def trainer(plan: Plan, network: Any, image_shape: tuple[int, int, int], recipe: Any) -> Trainer:
    """Compile the training of a poison network against one architecture and recipe."""
    import jax
    import optax

    from pp_jax import training

    network = getattr(network, "stacked", network)
    step = training.make_step(network, recipe.optimizer(1))

    def begin(key: Any) -> Any:
        def one(key: Any) -> Any:
            params = network.init(key, image_shape)
            return params, recipe.optimizer(1).init(params["params"])

        return jax.vmap(one)(jax.random.split(key, len(plan.thieves)))

    def turn(poison: Any, students: Any, seen: Seen) -> Any:
        def loss(params: Any) -> Any:
            least, beside = harm(plan, network, params, students, seen, recipe)
            return -least, beside

        gradient, (losses, students) = jax.grad(loss, has_aux=True)(poison[0])
        change, state = optimizer(plan).update(gradient, poison[1], poison[0])
        return (optax.apply_updates(poison[0], change), state), students, losses

    def advance(params: Any, students: Any, seen: Seen) -> Any:
        targets = answered(plan, params, seen.probs[0], seen.table, seen.key)
        return jax.vmap(step, (0, None, 0))(students, seen.images[0], targets)[0]

    return Trainer(jax.jit(begin), jax.jit(turn), jax.jit(advance))


def optimizer(plan: Plan) -> Any:
    """Of the poison network: Adam, clipped."""
    import optax

    rate = optax.cosine_decay_schedule(plan.learning_rate, plan.steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


def fit(
    plan: Plan,
    seed: int,
    network: Any,
    own: tuple[Any, Any],
    foreign: tuple[Any, Any],
    recipe: Any,
    *,
    on_step: Callable[[int, Any], None] = lambda step, losses: None,
) -> Any:
    """Train a poison network; its parameters.

    Args:
        plan: of the training.
        seed: of all randomness.
        network: of the students.
        own: the victim's training images and labels.
        foreign: images that stand for a thief's queries, and the victim's posteriors of them.
        recipe: the thieves'.
        on_step: hears the number of steps made, and the thieves' losses.
    """
    import jax
    import numpy as np

    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    images, probs = foreign
    trained = trainer(plan, network, images.shape[1:], recipe)
    params = plan.network().fresh(key, probs.shape[1])
    poison = params, optimizer(plan).init(params)
    students = [trained.begin(jax.random.fold_in(key, slot)) for slot in range(plan.students)]
    ages = [slot * plan.life // plan.students for slot in range(plan.students)]

    def shown(key: Any) -> Seen:
        rows = rng.integers(0, len(images), (plan.unrolled, plan.batch_size))
        others, judged = rng.integers(0, len(images), plan.table), rng.integers(0, len(own[0]), plan.judged)
        return Seen(images[rows], probs[rows], probs[others], own[0][judged], own[1][judged], key)

    for number in range(plan.steps):
        now, slot = jax.random.fold_in(jax.random.fold_in(key, plan.students), number), number % plan.students
        poison, students[slot], losses = trained.turn(poison, students[slot], shown(now))
        for part in range(plan.plain):
            students[slot] = trained.advance(poison[0], students[slot], shown(jax.random.fold_in(now, part)))
        ages[slot] += plan.unrolled + plan.plain
        if ages[slot] >= plan.life:
            students[slot], ages[slot] = trained.begin(now), 0
        on_step(number + 1, losses)
    return poison[0]


def train(seed: int, victim: Any, own: Any, images: Any) -> tuple[Any, dict[str, Any]]:
    """The poison network of a victim, with a progress bar; its parameters, and what came of it.

    Args:
        seed: of all randomness.
        victim: trained.
        own: its training set.
        images: that stand for a thief's queries.
    """
    import numpy as np
    from rich.progress import Progress

    from pp_jax import metrics, training

    probs = metrics.predict(victim.network, victim.params, images)
    heard: list[Any] = []
    with Progress() as bars:
        bar = bars.add_task("training the poison network", total=PLAN.steps)

        def hear(number: int, losses: Any) -> None:
            heard.append(np.asarray(losses))
            bars.update(bar, completed=number)

        pairs = (own.images, own.labels), (images, probs)
        # Students learn as a thief learns by default: SGD with momentum.
        params = fit(PLAN, seed, victim.network, *pairs, training.Recipe(1), on_step=hear)
    return params, {"harm": _means(heard)}


def _means(losses: Sequence[Any]) -> list[list[float]]:
    """Losses of the thieves, means over tenths of the training."""
    import numpy as np

    return [np.mean(part, axis=0).tolist() for part in np.array_split(np.stack(losses), min(10, len(losses)))]
