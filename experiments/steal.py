"""Steal one victim through one defense: a single cell of every experiment.

    python experiments/steal.py --defense.name mad --defense.epsilon .99
    python experiments/steal.py --attack.name knockoff_adaptive --attack.rewards certainty
    python experiments/steal.py --attack.name online --attack.sees thief --attack.learning-rate .1

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
from typing import Any

import attackers
import surrogates
import train_victim
import tyro
from attackers import Attack, Source
from defenses import Defense
from surrogates import Surrogate
from train_victim import Trained, Victim

Progress = Callable[[float], None]
"""Hears which share of a cell is done."""

SEED_IMAGES = 1000
"""The Jacobian family draws its seeds from the last so many test images; every thief of it is judged on the others."""


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
    import jax

    import pp_jax
    from pp_jax import metrics, records

    if (record := records.find(config.runs / folder, config.settings())) is not None:
        return record
    check(config, folder=folder)
    started = time.perf_counter()
    victim, pool, test = load(config)
    attack_key, thief_key, surrogate_key, secret = jax.random.split(jax.random.key(config.seed), 4)
    thief = train_victim.network_for(config.attack.model, test.num_classes, test.image_shape)
    network, surrogate = surrogates.build(
        config.surrogate, surrogate_key, thief=config.attack.model, victim=victim, of=config.victim,
        data_dir=config.data_dir,
    )  # fmt: skip
    box = pp_jax.BlackBox(victim.network, victim.params, config.defense.build(network, surrogate), secret)
    attack = online if config.attack.name == "online" else offline
    theft = attack(config, attack_key, thief_key, thief, pool, box, progress)

    queries = {"images": theft.images, "answers": theft.answers, "surrogate": (network, surrogate)}
    result = {
        "victim_accuracy": victim.accuracy,
        **judge(box, test, metrics.predict(thief, theft.params, test.images)),
        **judge_queries(victim, **queries),
        "chance": 1 / test.num_classes,
    }
    if theft.chosen is not None:
        params, epoch = theft.chosen
        accuracy = metrics.accuracy(metrics.predict(thief, params, test.images), test.labels)
        result |= {"chosen_epoch": epoch, "chosen_attacker_accuracy": accuracy}
    timings = {**theft.seconds, "total_s": time.perf_counter() - started}
    path = records.write(
        config.runs / folder, kind="tradeoff", config=config.settings(), result=result, timings=timings
    )
    return records.load(path)


def offline(
    config: Config, attack_key: Any, thief_key: Any, thief: Any, pool: Any, box: Any, progress: Progress
) -> Theft:
    """First all queries, then training: Knockoff and the Jacobian family."""
    from pp_jax import attacks, training

    attack = config.attack
    clock = [time.perf_counter()]
    # Where every round of queries trains a substitute, the queries are most of the work.
    querying = 0.7 if attack.name in attackers.JACOBIAN else 0.1
    asked = []

    def count(queries: int) -> None:
        asked.append(queries)
        progress(querying * sum(asked) / attack.budget)

    strategy = attack.strategy(thief, pool)
    stolen = attacks.collect(attack_key, strategy, pool.images, box.api(), budget=attack.budget, progress=count)
    clock.append(time.perf_counter())
    targets = stolen.answers if attack.labels == "soft" else stolen.answers.argmax(axis=1)
    held = int(attack.validation * len(targets))
    best = training.Best(thief, stolen.images[:held], targets[:held]) if held else None

    def hear(state: training.State, loss: float) -> None:
        if best is not None:
            best(state, loss)
        progress(querying + (1 - querying) * state.epoch / attack.epochs)

    params = training.fit(
        thief_key,
        thief,
        stolen.images[held:],
        targets[held:],
        attack.recipe(),
        params=warm_start(config, thief_key, thief, pool.image_shape),
        on_epoch=hear,
    )
    clock.append(time.perf_counter())
    seconds = {"answers_s": clock[1] - clock[0], "train_s": clock[2] - clock[1]}
    chosen = None if best is None else (best.params, best.epoch)
    return Theft(params, stolen.images, stolen.answers, chosen, seconds)


def online(
    config: Config, attack_key: Any, thief_key: Any, thief: Any, pool: Any, box: Any, progress: Progress
) -> Theft:
    """Query by query, while the defense sees the weights of the thief or of a proxy: white-box evaluation."""
    import jax
    import numpy as np

    from pp_jax import attacks

    attack = config.attack
    order = np.asarray(jax.random.permutation(attack_key, len(pool)))[: attack.budget]
    asked = []

    def count(queries: int) -> None:
        asked.append(queries)
        progress(sum(asked) / attack.budget)

    started = time.perf_counter()
    stolen = attacks.online(
        thief_key,
        thief,
        pool.images[order],
        box,
        optimizer=attack.recipe().optimizer(1),
        sees=attack.sees,
        proxy=thief if attack.sees == "proxy" else None,
        batch_size=attack.batch_size,
        progress=count,
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
    return _victim(own, config.runs, config.data_dir)


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
    pool, test = _images(config.victim.dataset, attack.source(), config.data_dir)
    most = float("inf") if attack.source() is None else len(pool)
    if not 1 <= attack.budget <= most:
        limit = "" if attack.source() is None else f" and at most {most}, the images of {attack.pool}"
        raise ValueError(f"budget is {attack.budget}: must be at least 1{limit}")
    return _victim(config.victim, config.runs, config.data_dir), pool, test


@functools.lru_cache(maxsize=2)
def _victim(victim: Victim, runs: Path, data_dir: Path | None) -> Trained:
    """Train or load once for all cells alike."""
    return train_victim.run(train_victim.Config(victim, runs, data_dir))


@functools.lru_cache(maxsize=2)
def _images(dataset: str, source: Source | None, data_dir: Path | None) -> tuple[Any, Any]:
    """The thief's pool and the test images."""
    from pp_jax import data

    test = data.load(dataset, "test", data_dir=data_dir)
    if source is None:
        held = min(SEED_IMAGES, len(test) // 2)
        return test[len(test) - held :], test[: len(test) - held]
    pool = data.load(source.pool, source.split, data_dir=data_dir)
    pool = resized(pool, test.image_shape) if source.resize else pool
    if pool.image_shape != test.image_shape:
        raise ValueError(
            f"pool {source.pool} has images {pool.image_shape}: must be {test.image_shape} as those of {dataset} "
            "(--attack.resize scales them)"
        )
    return pool, test


def resized(pool: Any, image_shape: tuple[int, int, int]) -> Any:
    """The pool with its images scaled to a victim's size, as a thief would: area average or bicubic, by Pillow."""
    import numpy as np
    from PIL import Image

    height, width, _ = image_shape
    smaller = pool.image_shape[0] >= height and pool.image_shape[1] >= width
    method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    scaled = [np.asarray(Image.fromarray(image.squeeze()).resize((width, height), method)) for image in pool.images]
    return dataclasses.replace(pool, images=np.stack(scaled).reshape(len(pool), height, width, -1))


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
