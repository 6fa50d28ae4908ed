"""What happens between a cell's configuration and its result: everything is made ready, and somebody steals."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import train_victim
from cells import loading
from owners import networks, surrogates
from thieves import attackers, recovering, seeking, trusting, unanswered
from train_victim import Trained

if TYPE_CHECKING:
    from cells.machines import Machines
    from steal import Config

KEEP_EVERY_S = 60.0
"""Seconds of a thief's training that a kill may cost."""

Progress = Callable[[float], None]
"""Hears which share of a cell is done."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """Everything that stands ready before the first query.

    Attributes:
        victim: trained.
        pool: what the thief asks about.
        test: what everyone is judged on.
        thief: the network of the thief.
        surrogate: network and parameters of the defender's.
        box: the victim behind its defense.
        attack_key: randomness of the queries.
        thief_key: randomness of the thief's training.
    """

    victim: Trained
    pool: Any
    test: Any
    thief: Any
    surrogate: tuple[Any, Any]
    box: Any
    attack_key: Any
    thief_key: Any


@dataclasses.dataclass(frozen=True)
class Theft:
    """What an attacker comes home with: its model, the questions and the answers.

    Attributes:
        network: of the thief, which predicts with its parameters.
        params: of the thief, after the last epoch.
        images: all that was asked about.
        answers: what was answered, to each image once.
        queries: how many were paid for.
        chosen: parameters and number of the epoch that held-out answers chose, where some were held out.
        seconds: by stage.
    """

    network: Any
    params: Any
    images: Any
    answers: Any
    queries: int
    chosen: tuple[Any, int] | None
    seconds: dict[str, float]


def scene(config: Config) -> Scene:
    """Load or train what a cell needs, and put the defense in front of the victim."""
    import jax

    import pp_jax

    victim, pool, test = loading.cell(config)
    attack_key, thief_key, surrogate_key, secret = jax.random.split(jax.random.key(config.seed), 4)
    thief = train_victim.network_for(config.attack.model, test.num_classes, test.image_shape)
    surrogate = surrogates.build(
        config.surrogate, surrogate_key, thief=config.attack.model, victim=victim, of=config.victim, like=test,
        runs=config.runs, data_dir=config.data_dir,
    )  # fmt: skip
    beside = networks.beside(config.defense.needs(), config.victim, config.runs, config.data_dir)
    box = pp_jax.BlackBox(victim.network, victim.params, config.defense.build(*surrogate, beside), secret)
    return Scene(victim, pool, test, thief, surrogate, box, attack_key, thief_key)


def commit(config: Config, at: Scene, partial: Path, progress: Progress) -> Theft:
    """One theft, by the attack of the configuration; after a kill in a long training it goes on from `partial`."""
    if config.attack.name == "online":
        return online(config, at, progress)
    return offline(config, at, partial, progress)


def offline(config: Config, at: Scene, partial: Path, progress: Progress) -> Theft:
    """First all queries, then training: Knockoff and the Jacobian family."""
    from pp_jax import attacks, blackbox

    attack = config.attack
    unanswered.check_left(attack, at.pool)
    clock = [time.perf_counter()]
    # Where every round of queries trains a substitute, the queries are most of the work.
    querying = 0.7 if attack.name in attackers.JACOBIAN else 0.1
    meter = blackbox.Metered(at.box.api(), attack.budget)
    pool = seeking.pool(config, at)
    copies = attack.effort.copies if attack.labels in attackers.SEVERAL else 1
    count = attack.budget // copies
    stolen = attacks.collect(
        at.attack_key,
        attack.strategy(at.thief, at.pool),
        pool,
        recovering.api(config, at, meter),
        budget=count,
        progress=counter(progress, count, share=querying),
    )
    clock.append(time.perf_counter())
    images, targets = trusting.lessons(config, at, stolen.images, stolen.answers)

    def hear(done: float) -> None:
        progress(querying + (1 - querying) * done)

    if attack.labels in attackers.SEMI:
        network, params = unanswered.fit(config, at, images, targets, partial, KEEP_EVERY_S, hear)
        chosen = None
    else:
        network = at.thief
        params, chosen = train(config, at, images, targets, partial, hear)
    clock.append(time.perf_counter())
    seconds = {"answers_s": clock[1] - clock[0], "train_s": clock[2] - clock[1]}
    return Theft(network, params, stolen.images, stolen.answers, meter.spent, chosen, seconds)


def train(
    config: Config, at: Scene, images: Any, targets: Any, partial: Path, progress: Progress
) -> tuple[Any, tuple[Any, int] | None]:
    """The thief's parameters after the last epoch, and those that held-out answers chose with their epoch."""
    from pp_jax import training

    attack = config.attack
    held = int(attack.validation * len(targets))
    best = training.Best(at.thief, images[:held], targets[:held]) if held else None

    def hear(state: training.State, loss: float) -> None:
        if best is not None:
            best(state, loss)
        progress(state.epoch / attack.epochs)

    options: dict[str, Any] = {"params": warm_start(config, at), "on_epoch": hear}
    fit = training.fit
    if best is None:  # what held-out answers have chosen so far is not kept
        fit = functools.partial(training.fit_resumably, partial)
        options |= {"identity": config.settings(), "every_s": KEEP_EVERY_S}
    params = fit(at.thief_key, at.thief, images[held:], targets[held:], attack.recipe(), **options)
    return params, None if best is None else (best.params, best.epoch)


def online(config: Config, at: Scene, progress: Progress) -> Theft:
    """Query by query, while the defense sees the weights of the thief or of a proxy: white-box evaluation."""
    import jax
    import numpy as np

    from pp_jax import attacks

    attack = config.attack
    order = np.asarray(jax.random.permutation(at.attack_key, len(at.pool)))[: attack.budget]
    started = time.perf_counter()
    stolen = attacks.online(
        at.thief_key,
        at.thief,
        at.pool.images[order],
        at.box,
        optimizer=attack.recipe().optimizer(1),
        sees=attack.sees,
        proxy=at.thief if attack.sees == "proxy" else None,
        batch_size=attack.batch_size,
        progress=counter(progress, attack.budget),
    )
    seconds = {"train_s": time.perf_counter() - started}
    took = stolen.transfer
    return Theft(at.thief, stolen.params, took.images, took.answers, took.queries, None, seconds)


def batchable(config: Config) -> bool:
    """Whether the theft can be one of many in a program: its queries and its training do not hang on the answers."""
    from pp_jax.types import StatefulDefense

    attack = config.attack
    if isinstance(config.defense.build(None, None), StatefulDefense):  # one query after another
        return False
    return attack.name == "knockoff" and attack.labels in ("soft", "top1") and not attack.validation


def together(
    configs: Sequence[Config], scenes: Sequence[Scene], machines: Machines, progress: Progress
) -> Iterator[Theft]:
    """Thefts of one attack from one pool, as many at once as the machine holds."""
    import numpy as np

    from pp_jax import sweep

    attack, pool, thief = configs[0].attack, scenes[0].pool, scenes[0].thief
    thefts = [
        sweep.Theft(at.box, at.attack_key, at.thief_key, warm_start(config, at))
        for config, at in zip(configs, scenes, strict=True)
    ]
    committed = sweep.run(
        thefts,
        thief,
        pool.images,
        attack.recipe(),
        budget=attack.budget,
        top1=attack.labels == "top1",
        way=machines.chosen_way(),
        memory=machines.memory_bytes(),
        tell=print,
        progress=progress,
    )
    clock = time.perf_counter()
    for stolen in committed:
        seconds = {"sweep_s": time.perf_counter() - clock, "sweep_thefts": float(len(thefts))}
        answers = np.asarray(stolen.answers)
        yield Theft(thief, stolen.params, pool.images[stolen.rows], answers, len(answers), None, seconds)


def counter(progress: Progress, budget: int, *, share: float = 1.0) -> Callable[[int], None]:
    """Hears of queries and tells which share of the cell they are, `share` when the budget is spent."""
    spent = 0

    def count(queries: int) -> None:
        nonlocal spent
        spent += queries
        progress(share * spent / budget)

    return count


def warm_start(config: Config, at: Scene) -> Any:
    """The parameters that a thief starts from, or None for fresh ones; a last layer of other classes starts fresh."""
    import jax

    from pp_jax import checkpoints

    source = config.attack.warm_start
    if source is None:
        return None
    fresh = at.thief.init(at.thief_key, at.pool.image_shape)
    given = checkpoints.load(source)[0] if source.endswith(".safetensors") else loading.pretrained(config).params
    return jax.tree.map(lambda new, old: old if new.shape == old.shape else new, fresh, given)
