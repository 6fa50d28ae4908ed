"""The training of a poison network against students that are kept at all stages of theirs; `unrolling` has its aim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from owners import unrolling


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


def trainer(plan: unrolling.Plan, network: Any, image_shape: tuple[int, int, int], recipe: Any) -> Trainer:
    """Compile the training of a poison network against one architecture and recipe."""
    import jax
    import optax

    from pp_jax import training

    network = network.vmapped
    step = training.make_step(network, recipe.optimizer(1))

    def begin(key: Any) -> Any:
        def one(key: Any) -> Any:
            params = network.init(key, image_shape)
            return params, recipe.optimizer(1).init(params["params"])

        return jax.vmap(one)(jax.random.split(key, len(plan.thieves)))

    def turn(poison: Any, students: Any, seen: unrolling.Seen) -> Any:
        def loss(params: Any) -> Any:
            least, beside = unrolling.harm(plan, network, params, students, seen, recipe)
            return -least, beside

        gradient, (losses, students) = jax.grad(loss, has_aux=True)(poison[0])
        change, state = optimizer(plan).update(gradient, poison[1], poison[0])
        return (optax.apply_updates(poison[0], change), state), students, losses

    def advance(params: Any, students: Any, seen: unrolling.Seen) -> Any:
        targets = unrolling.answered(plan, params, seen.probs[0], seen.table, seen.key)
        return jax.vmap(step, (0, None, 0))(students, seen.images[0], targets)[0]

    return Trainer(jax.jit(begin), jax.jit(turn), jax.jit(advance))


def optimizer(plan: unrolling.Plan) -> Any:
    """Of the poison network: Adam, clipped."""
    import optax

    rate = optax.cosine_decay_schedule(plan.learning_rate, plan.steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


def fit(
    plan: unrolling.Plan,
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

    def shown(key: Any) -> unrolling.Seen:
        rows = rng.integers(0, len(images), (plan.unrolled, plan.batch_size))
        others, judged = rng.integers(0, len(images), plan.table), rng.integers(0, len(own[0]), plan.judged)
        return unrolling.Seen(images[rows], probs[rows], probs[others], own[0][judged], own[1][judged], key)

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
        bar = bars.add_task("training the poison network", total=unrolling.PLAN.steps)

        def hear(number: int, losses: Any) -> None:
            heard.append(np.asarray(losses))
            bars.update(bar, completed=number)

        pairs = (own.images, own.labels), (images, probs)
        # Students learn as a thief learns by default: SGD with momentum.
        params = fit(unrolling.PLAN, seed, victim.network, *pairs, training.Recipe(1), on_step=hear)
    return params, {"harm": _means(heard)}


def _means(losses: Sequence[Any]) -> list[list[float]]:
    """Losses of the thieves, means over tenths of the training."""
    import numpy as np

    return [np.mean(part, axis=0).tolist() for part in np.array_split(np.stack(losses), min(10, len(losses)))]
