"""Steal one victim through one defense: a single cell of the trade-off.

    python experiments/steal.py --defense.name mad --defense.epsilon .99

trains the victim first if there is none yet; the theft itself takes about a minute on 2 CPU cores. Prints what the
thief got and what the defense cost, and writes the record to `runs/steal/<hash>.json`.
"""

import base64
import dataclasses
import functools
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import train_victim
import tyro
from defenses import Defense
from train_victim import Model, Trained, Victim


@dataclasses.dataclass(frozen=True)
class Attack:
    """All that determines an attacker: Knockoff Nets with random queries."""

    pool: str = "font_letters"
    """Whose training images are asked about, a name of `python -m pp_jax.data list`."""
    budget: int = 10_000
    """Queries; one image is one query."""
    labels: Literal["soft", "top1"] = "soft"
    """Train on the answers, or on their argmax."""
    model: Model = "lenet"
    """The thief's architecture."""
    epochs: int = 12
    """Passes over the transfer set."""
    batch_size: int = 64
    """Images a step."""
    learning_rate: float = 0.1
    """Of SGD."""
    momentum: float = 0.5
    """Of SGD."""

    def recipe(self) -> Any:
        """How the thief is trained."""
        from pp_jax import training

        return training.Recipe(self.epochs, self.batch_size, self.learning_rate, self.momentum)


@dataclasses.dataclass(frozen=True)
class Config:
    """Steal one victim through one defense."""

    victim: Victim = dataclasses.field(default_factory=Victim)
    attack: Attack = dataclasses.field(default_factory=Attack)
    defense: Defense = dataclasses.field(default_factory=Defense)
    seed: int = 0
    """Of the attack, the thief's initialisation, the surrogate and the owner's key."""
    runs: Path = Path("runs")
    """Folder of all results."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""

    def settings(self) -> dict[str, Any]:
        """What determines the result, as its record has it."""
        attack = {"name": "knockoff", **dataclasses.asdict(self.attack)}
        victim = dataclasses.asdict(self.victim)
        return {"victim": victim, "attack": attack, "defense": self.defense.settings(), "seed": self.seed}


def run(config: Config, *, folder: str = "steal", on_epoch: Callable[[int], None] | None = None) -> Any:
    """Compute the cell, or return its record if it has been computed; `on_epoch` hears of the thief's epochs."""
    import jax

    import pp_jax
    from pp_jax import attacks, metrics, records, training

    if (record := records.find(config.runs / folder, config.settings())) is not None:
        return record
    check(config, folder=folder)
    victim, pool, test = load(config)
    attack_key, thief_key, surrogate_key, secret = jax.random.split(jax.random.key(config.seed), 4)
    thief = train_victim.network_for(config.attack.model, test.num_classes)
    surrogate = thief.init(surrogate_key, test.image_shape)
    defense = config.defense.build(thief, surrogate)
    box = pp_jax.BlackBox(victim.network, victim.params, defense, secret)

    clock = [time.perf_counter()]
    stolen = attacks.collect(attack_key, attacks.Knockoff(), pool.images, box.api(), budget=config.attack.budget)
    clock.append(time.perf_counter())
    targets = stolen.answers if config.attack.labels == "soft" else stolen.answers.argmax(axis=1)
    hear = (lambda state, _: on_epoch(state.epoch)) if on_epoch else None
    params = training.fit(thief_key, thief, stolen.images, targets, config.attack.recipe(), on_epoch=hear)
    clock.append(time.perf_counter())

    queries = {"images": stolen.images, "answers": stolen.answers, "surrogate": (thief, surrogate)}
    result = {
        "victim_accuracy": victim.accuracy,
        **judge(box, test, metrics.predict(thief, params, test.images)),
        **judge_queries(victim, **queries),
        "chance": 1 / test.num_classes,
    }
    timings = {
        "answers_s": clock[1] - clock[0],
        "train_s": clock[2] - clock[1],
        "total_s": time.perf_counter() - clock[0],
    }
    path = records.write(
        config.runs / folder, kind="tradeoff", config=config.settings(), result=result, timings=timings
    )
    return records.load(path)


def check(config: Config, *, folder: str = "steal") -> None:
    """Refuse what can be seen to be wrong before long work starts: defense, recipes, the output folder."""
    from pp_jax import records

    config.defense.build(None, None)
    config.attack.recipe()
    config.victim.recipe()
    records.check_writable(config.runs / folder)


def load(config: Config) -> tuple[Trained, Any, Any]:
    """The victim, the thief's pool and the test images, checked against one another before long work starts."""
    return _load(config.victim, config.attack.pool, config.attack.budget, config.runs, config.data_dir)


@functools.lru_cache(maxsize=4)
def _load(victim: Victim, pool: str, budget: int, runs: Path, data_dir: Path | None) -> tuple[Trained, Any, Any]:
    """Load once for all cells alike."""
    from pp_jax import data

    images = data.load(pool, "train", data_dir=data_dir)
    test = data.load(victim.dataset, "test", data_dir=data_dir)
    if images.image_shape != test.image_shape:
        raise ValueError(
            f"pool {pool} has images {images.image_shape}: must be {test.image_shape} as those of {victim.dataset}"
        )
    if not 1 <= budget <= len(images):
        raise ValueError(f"budget is {budget}: must be at least 1 and at most {len(images)}, the images of {pool}")
    return train_victim.run(train_victim.Config(victim, runs, data_dir)), images, test


def judge(box: Any, test: Any, thief: Any) -> dict[str, Any]:
    """What the owner and the thief score on the test images."""
    import numpy as np

    from pp_jax import metrics

    parts = [box(test.images[i : i + 500]) for i in range(0, len(test), 500)]
    answers = np.concatenate([np.asarray(answers) for answers, _ in parts])
    clean = np.concatenate([np.asarray(audit.probs) for _, audit in parts])
    return {
        "attacker_accuracy": metrics.accuracy(thief, test.labels),
        "defender_accuracy": metrics.accuracy(answers, test.labels),
        "fidelity": metrics.agreement(thief, clean),
        "test_l1": metrics.distances(clean, answers)["l1"],
        "test_kept_argmax": metrics.agreement(answers, clean),
        "examples": [example(test, index, clean, answers) for index in _shown(test.labels)],
    }


def judge_queries(victim: Trained, *, images: Any, answers: Any, surrogate: tuple[Any, Any]) -> dict[str, Any]:
    """How far the answers to the thief's queries are from the clean posteriors."""
    from pp_jax import metrics

    clean = metrics.predict(victim.network, victim.params, images)
    network, params = surrogate
    angles = metrics.angular_deviation(clean, answers, images, logits_fn=network, params=params)
    distances = {f"query_{name}": values for name, values in metrics.distances(clean, answers).items()}
    return {
        "queries": len(images),
        **distances,
        "query_angle_degrees": metrics.summary(angles),
        "query_kept_argmax": metrics.agreement(answers, clean),
    }


def _shown(labels: Any) -> list[int]:
    """The first test image of each of four classes."""
    return [int((labels == label).argmax()) for label in range(min(4, labels.max() + 1))]


def example(test: Any, index: int, clean: Any, answers: Any) -> dict[str, Any]:
    """One image with its clean and its returned posterior, for the report."""
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(test.images[index].squeeze()).save(png, "PNG")
    return {
        "image_png": base64.b64encode(png.getvalue()).decode(),
        "label": int(test.labels[index]),
        "class_names": list(test.class_names),
        "clean": clean[index].tolist(),
        "answer": answers[index].tolist(),
    }


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
