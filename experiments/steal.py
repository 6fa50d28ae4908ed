"""Steal one victim through one defense: a single cell of every experiment.

    python experiments/steal.py --defense.name mad --defense.epsilon .99
    python experiments/steal.py --attack.name knockoff_adaptive --attack.rewards certainty
    python experiments/steal.py --attack.name online --attack.sees thief --attack.learning-rate .1

trains the victim first if there is none yet; the theft itself takes about a minute on 2 CPU cores. Prints what the
thief got and what the defense cost, and writes the record to `runs/steal/<hash>.json`.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attackers
import judging
import loading
import surrogates
import train_victim
import tyro
from attackers import Attack
from defenses import Defense
from surrogates import Surrogate
from train_victim import Trained, Victim

Progress = Callable[[float], None]
"""Hears which share of a cell is done."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Steal one victim through one defense."""

    victim: Victim = dataclasses.field(default_factory=Victim)
    attack: Attack = dataclasses.field(default_factory=Attack)
    defense: Defense = dataclasses.field(default_factory=Defense)
    surrogate: Surrogate = dataclasses.field(default_factory=Surrogate)
    seed: int = 0
    """Of the attack, the thief's initialisation, the surrogate and the owner's key."""
    runs: Path = Path("runs")
    """Folder of all results."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""

    def settings(self) -> dict[str, Any]:
        """What determines the result, as its record has it."""
        surrogate = self.surrogate.settings()
        return {
            "victim": self.victim.settings(),
            "attack": self.attack.settings(),
            "defense": self.defense.settings(),
            **({"surrogate": surrogate} if surrogate else {}),
            "seed": self.seed,
        }

    def over(self, seeds: Iterable[int]) -> list["Config"]:
        """The same cell for each of several seeds."""
        return [dataclasses.replace(self, seed=seed) for seed in seeds]


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
        params: of the thief, after the last epoch.
        images: all that was asked about.
        answers: what was answered.
        chosen: parameters and number of the epoch that held-out answers chose, where some were held out.
        seconds: by stage.
    """

    params: Any
    images: Any
    answers: Any
    chosen: tuple[Any, int] | None
    seconds: dict[str, float]


def run(config: Config, *, folder: str = "steal", progress: Progress = lambda _: None) -> Any:
    """Compute the cell, or return its record if it has been computed."""
    from pp_jax import metrics, records

    if (record := records.find(config.runs / folder, config.settings())) is not None:
        return record
    check(config, folder=folder)
    started = time.perf_counter()
    at = scene(config)
    attack = online if config.attack.name == "online" else offline
    theft = attack(config, at, progress)

    result = {
        "victim_accuracy": at.victim.accuracy,
        **judging.judge(at.box, at.test, metrics.predict(at.thief, theft.params, at.test.images)),
        **judging.judge_queries(at.victim, images=theft.images, answers=theft.answers, surrogate=at.surrogate),
        "chance": 1 / at.test.num_classes,
    }
    if theft.chosen is not None:
        params, epoch = theft.chosen
        accuracy = metrics.accuracy(metrics.predict(at.thief, params, at.test.images), at.test.labels)
        result |= {"chosen_epoch": epoch, "chosen_attacker_accuracy": accuracy}
    timings = {**theft.seconds, "total_s": time.perf_counter() - started}
    path = records.write(
        config.runs / folder, kind="tradeoff", config=config.settings(), result=result, timings=timings
    )
    return records.load(path)


def scene(config: Config) -> Scene:
    """Load or train what a cell needs, and put the defense in front of the victim."""
    import jax

    import pp_jax

    victim, pool, test = load(config)
    attack_key, thief_key, surrogate_key, secret = jax.random.split(jax.random.key(config.seed), 4)
    thief = train_victim.network_for(config.attack.model, test.num_classes, test.image_shape)
    surrogate = surrogates.build(
        config.surrogate, surrogate_key, thief=config.attack.model, victim=victim, of=config.victim, like=test,
        data_dir=config.data_dir,
    )  # fmt: skip
    box = pp_jax.BlackBox(victim.network, victim.params, config.defense.build(*surrogate), secret)
    return Scene(victim, pool, test, thief, surrogate, box, attack_key, thief_key)


def counter(progress: Progress, budget: int, *, share: float = 1.0) -> Callable[[int], None]:
    """Hears of queries and tells which share of the cell they are, `share` when the budget is spent."""
    spent = 0

    def count(queries: int) -> None:
        nonlocal spent
        spent += queries
        progress(share * spent / budget)

    return count


def offline(config: Config, at: Scene, progress: Progress) -> Theft:
    """First all queries, then training: Knockoff and the Jacobian family."""
    from pp_jax import attacks, training

    attack = config.attack
    clock = [time.perf_counter()]
    # Where every round of queries trains a substitute, the queries are most of the work.
    querying = 0.7 if attack.name in attackers.JACOBIAN else 0.1
    stolen = attacks.collect(
        at.attack_key,
        attack.strategy(at.thief, at.pool),
        at.pool.images,
        at.box.api(),
        budget=attack.budget,
        progress=counter(progress, attack.budget, share=querying),
    )
    clock.append(time.perf_counter())
    targets = stolen.answers if attack.labels == "soft" else stolen.answers.argmax(axis=1)
    held = int(attack.validation * len(targets))
    best = training.Best(at.thief, stolen.images[:held], targets[:held]) if held else None

    def hear(state: training.State, loss: float) -> None:
        if best is not None:
            best(state, loss)
        progress(querying + (1 - querying) * state.epoch / attack.epochs)

    params = training.fit(
        at.thief_key,
        at.thief,
        stolen.images[held:],
        targets[held:],
        attack.recipe(),
        params=warm_start(config, at.thief_key, at.thief, at.pool.image_shape),
        on_epoch=hear,
    )
    clock.append(time.perf_counter())
    seconds = {"answers_s": clock[1] - clock[0], "train_s": clock[2] - clock[1]}
    chosen = None if best is None else (best.params, best.epoch)
    return Theft(params, stolen.images, stolen.answers, chosen, seconds)


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
    return Theft(stolen.params, stolen.transfer.images, stolen.transfer.answers, None, seconds)


def warm_start(config: Config, key: Any, thief: Any, image_shape: tuple[int, int, int]) -> Any:
    """The parameters that a thief starts from, or None for fresh ones; a last layer of other classes starts fresh."""
    import jax

    from pp_jax import checkpoints

    source = config.attack.warm_start
    if source is None:
        return None
    fresh = thief.init(key, image_shape)
    given = checkpoints.load(source)[0] if source.endswith(".safetensors") else pretrained(config).params
    return jax.tree.map(lambda new, old: old if new.shape == old.shape else new, fresh, given)


def pretrained(config: Config) -> Trained:
    """The thief's architecture trained on the labels of the data set it starts warm from."""
    own = Victim(config.attack.warm_start or "", config.attack.model)
    return loading.victim(own, config.runs, config.data_dir)


def prepare(config: Config) -> None:
    """Do beforehand, with progress bars of their own, what many cells share: victims and warm starts."""
    load(config)
    if config.attack.warm_start and not config.attack.warm_start.endswith(".safetensors"):
        pretrained(config)


def check(config: Config, *, folder: str = "steal") -> None:
    """Refuse what can be seen to be wrong before long work starts: defense, recipes, the output folder."""
    from pp_jax import records

    defense = config.defense.build(None, None)
    config.attack.check()
    if config.attack.name == "online" and config.attack.sees != "fixed" and not hasattr(defense, "surrogate"):
        raise ValueError(
            f"attack.sees is {config.attack.sees}: defense {config.defense.name} has no surrogate to see it"
        )
    config.victim.recipe()
    records.check_writable(config.runs / folder)


def load(config: Config) -> tuple[Trained, Any, Any]:
    """The victim, the thief's pool and the test images, checked against one another before long work starts."""
    attack = config.attack
    pool, test = loading.images(config.victim.dataset, attack.source(), config.data_dir)
    most = float("inf") if attack.source() is None else len(pool)
    if not 1 <= attack.budget <= most:
        limit = "" if attack.source() is None else f" and at most {most}, the images of {attack.pool}"
        raise ValueError(f"budget is {attack.budget}: must be at least 1{limit}")
    return loading.victim(config.victim, config.runs, config.data_dir), pool, test


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    import rich

    from pp_jax import report

    try:
        record = run(config)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    rich.print(report.table([record]))
    print(record.path)


if __name__ == "__main__":
    main()
