"""Steal one victim through one defense: a single cell of every experiment.

    python experiments/steal.py --defense.name mad --defense.epsilon .99
    python experiments/steal.py --attack.name knockoff_adaptive --attack.rewards certainty
    python experiments/steal.py --attack.name online --attack.sees thief --attack.learning-rate .1

trains the victim first if there is none yet; the theft itself takes about a minute on 2 CPU cores. Prints what the
thief got and what the defense cost, and writes the record to `runs/steal/<hash>.json`.
"""

import dataclasses
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tyro

from cells import loading
from owners import networks
from owners.defenses import Defense
from owners.surrogates import Surrogate
from thieves import judging, recovering, theft
from thieves.attackers import Attack
from thieves.theft import Progress, Scene, Theft
from train_victim import Victim


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
        surrogate, needs = self.surrogate.settings(), self.defense.needs()
        return {
            "victim": self.victim.settings(),
            "attack": self.attack.settings(),
            "defense": self.defense.settings(),
            **({"networks": needs.settings()} if needs else {}),
            **({"surrogate": surrogate} if surrogate else {}),
            "seed": self.seed,
        }

    def over(self, seeds: Iterable[int]) -> list["Config"]:
        """The same cell for each of several seeds."""
        return [dataclasses.replace(self, seed=seed) for seed in seeds]


def run(config: Config, *, folder: str = "steal") -> Any:
    """The record of the cell, computed if it has not been: by one process, however many ask."""
    from pp_jax import records

    check(config, folder=folder)
    path, settings = config.runs / folder, config.settings()
    if records.find(path, settings) is None:
        loading.prepare(config)  # refuses what does not fit before anything is written
    return records.once(path, settings, lambda: compute(config, folder=folder), wait=True)


def compute(config: Config, *, folder: str, progress: Progress = lambda _: None) -> None:
    """Steal, and write the record."""
    from pp_jax import records

    started = time.perf_counter()
    at = theft.scene(config)
    partial = config.runs / folder / f"{records.key(config.settings())}.partial"
    conclude(config, at, theft.commit(config, at, partial, progress), folder=folder, started=started)
    shutil.rmtree(partial, ignore_errors=True)


def conclude(config: Config, at: Scene, stolen: Theft, *, folder: str, started: float) -> None:
    """Judge a theft, and write the record of its cell."""
    from pp_jax import metrics, records

    result = {
        "victim_accuracy": at.victim.accuracy,
        **judging.judge(at.box, at.test, metrics.predict(stolen.network, stolen.params, at.test.images)),
        **judging.judge_queries(at.victim, images=stolen.images, answers=stolen.answers, surrogate=at.surrogate),
        "queries": stolen.queries,
        "chance": 1 / at.test.num_classes,
    }
    if stolen.chosen is not None:
        params, epoch = stolen.chosen
        accuracy = metrics.accuracy(metrics.predict(stolen.network, params, at.test.images), at.test.labels)
        result |= {"chosen_epoch": epoch, "chosen_attacker_accuracy": accuracy}
    timings = {**stolen.seconds, "total_s": time.perf_counter() - started}
    records.write(config.runs / folder, kind="tradeoff", config=config.settings(), result=result, timings=timings)


def check(config: Config, *, folder: str = "steal") -> None:
    """Refuse what can be seen to be wrong before long work starts: defense, recipes, the output folder."""
    from pp_jax import records
    from pp_jax.types import SurrogateDefense

    defense = config.defense.build(None, None)
    config.attack.check()
    recovering.check(config.attack.labels, config.defense)
    networks.check(config.defense.needs(), config.victim, pool=config.attack.pool)
    if config.attack.name == "online" and config.attack.sees != "fixed" and not isinstance(defense, SurrogateDefense):
        raise ValueError(
            f"attack.sees is {config.attack.sees}: defense {config.defense.name} has no surrogate to see it"
        )
    config.victim.recipe()
    records.check_writable(config.runs / folder)


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
