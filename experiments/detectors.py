"""Detectors by account: what each sees of every attack, and how often it accuses a benign account.

    python -m experiments.detectors                                  # MNIST ← font_letters, about 40 minutes
    python -m experiments.detectors --attack.pool notmnist --attack.budget 4000

Detectors are fitted on a third of the victim's test images. Their thresholds are set on benign accounts that query as
many images of the second third as the attacker's budget (uniformly at random), at false-alarm rates of 1 % and 0.1 %
per account. All else is measured on the last third. An attacker is stopped at its first alarm at 1 %; its accuracy is
read off a curve of models trained on as many of its queries as were answered by then. Then the same with its budget
split over several identities, with benign-looking queries mixed in, and for an attacker who runs the very detector and
picks, query by query, the least suspicious of 16 images. Attacks are those on the undefended victim: what a blocked
attacker would do next is not played out. Writes a record per detector, `detectors.md`, `benign.md` and `informed.md`
into `runs/detectors`.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from experiments import common, detector_worlds
from experiments.detector_worlds import World
from pp_jax._command import command

RATES = (0.01, 0.001)


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Detectors × attackers."""

    attack: common.AttackOptions = dataclasses.field(
        default_factory=lambda: common.AttackOptions(budget=1000, epochs=10)
    )
    accounts: int = 1000
    """Benign accounts that thresholds are set on; 0.1 % needs 999."""
    measured: int = 100
    """Accounts of each other kind."""
    identities: tuple[int, ...] = (1, 10, 100, 1000)
    """Over how many accounts an attacker splits its budget."""
    mixtures: tuple[float, ...] = (0.5, 0.9)
    """Shares of benign-looking queries that an informed attacker mixes in."""
    own_images: int = 100
    """Images of the victim's distribution that this attacker owns."""
    other: str | None = None
    """Another pool, of which the neighbour attack queries 100 images; notmnist or font_letters by default."""
    skip: tuple[str, ...] = ()
    """Attacks that are left out, of adaptive Knockoff (which takes longest), JBDA and JB-top3."""
    detectors: tuple[str, ...] = ()
    """Names of functions in `pp_jax.detection.makers`; all by default."""
    folder: str = "detectors"
    """Where below `runs` the records and the tables go."""


def judge(at: World, maker: Callable[..., Any]) -> dict[str, Any]:
    """What one detector comes to: by attack, by benign kind, and against informed attackers."""
    import jax
    import numpy as np

    from pp_jax import detection
    from pp_jax.detection import evading

    key = jax.random.key(1)
    detector = maker(key, at.victim.network, at.victim.params, *at.fitted)
    calm = detection.watch(detector, *at.calibration)
    limits = [detection.threshold(calm, rate) for rate in RATES]
    scored = {kind: detection.watch(detector, *streams) for kind, streams in at.kinds.items()}

    def stopped(streams: Any, seen: Any, known: Any) -> tuple[dict[str, Any], list[Any]]:
        """What becomes of the accounts of one attacker, and the queries answered before their alarms at 1 %."""
        scores = detection.watch(detector, seen, streams, known=known)
        alarms = [detection.first_alarm(scores, limit) for limit in limits]
        had = [row[: int(min(alarm, len(row)))] for row, alarm in zip(streams, alarms[0], strict=True)]
        shares = [float(np.isfinite(each).mean()) for each in alarms]
        return {"detected": shares, "queries": sum(map(len, had))}, had

    found: dict[str, Any] = {"memory": detection.memory(detector), "thresholds": limits, "attacks": {}, "informed": {}}
    found["benign"] = {
        kind: [float((scores.max(axis=1) > limit).mean()) for limit in limits] for kind, scores in scored.items()
    }
    for name, (seen, streams) in at.attacks.items():
        known = detection.summaries(detector, seen)
        scores = detection.watch(detector, seen, streams, known=known)
        alarms = [detection.first_alarm(scores, limit) for limit in limits]
        answered = float(np.median(np.minimum(alarms[0], streams.shape[1])))
        split = {}
        for count in at.identities:
            split[str(count)] = stopped(evading.split(streams[0], count), seen, known)[0]
            split[str(count)]["accuracy"] = at.accuracy(name, split[str(count)]["queries"])
        found["attacks"][name] = {
            "accounts": len(streams),
            "auroc": evading.auroc(scored["uniform"], scores),
            "detected": [float(np.isfinite(each).mean()) for each in alarms],
            "queries": answered,
            "accuracy": at.accuracy(name, answered),
            "undetected": at.accuracy(name, streams.shape[1]),
            "split": split,
        }
    name, (seen, streams) = next(iter(at.attacks.items()))
    both = detection.Observed(*(jax.numpy.concatenate(pair) for pair in zip(at.own, seen, strict=True)))
    known, cover = detection.summaries(detector, both), len(at.own.images)
    for share in at.mixtures:
        rows = evading.mixed(key, streams[0] + cover, np.arange(cover), share)[None]
        cell, had = stopped(rows, both, known)
        cell["queries"] = int((had[0] >= cover).sum())
        found["informed"][f"{share:.0%} own images mixed in"] = cell | {"accuracy": at.accuracy(name, cell["queries"])}
    pool = jax.tree.map(lambda leaf: leaf[cover:], known)
    rows = evading.evading(key, detector, seen, queries=streams.shape[1], known=pool)
    cell, had = stopped(rows[None], seen, pool)
    found["informed"]["least suspicious of 16"] = cell | {"accuracy": at.accuracy.trained(name, had[0])}
    return found


def run(config: Config) -> list[Any]:
    """Compute what is missing; the three tables."""
    from pp_jax import records
    from pp_jax.detection import makers
    from pp_jax.results.tables import Table, provenance

    names = config.detectors or (*(maker.__name__ for maker in makers.MAKERS), "hoda")
    for name in names:
        if not callable(getattr(makers, name, None)):
            raise ValueError(f"there is no detector {name!r}: {', '.join(m.__name__ for m in makers.MAKERS)}, hoda")
    if unknown := sorted(set(config.skip) - set(detector_worlds.ADAPTIVE)):
        raise ValueError(f"skip has {unknown[0]!r}: must be of {', '.join(detector_worlds.ADAPTIVE)}")
    folder = config.runs / config.folder
    records.check_writable(folder)
    settings = {
        "victim": config.victim.settings(), "attack": dataclasses.asdict(config.attack), "seed": config.seeds[0],
        "accounts": config.accounts, "measured": config.measured, "identities": list(config.identities),
        "split": "thirds", "mixtures": list(config.mixtures), "own_images": config.own_images, "other": config.other,
    }  # fmt: skip
    if config.skip:
        settings["skip"] = list(config.skip)
    found, at = {}, None
    for name in names:
        record = records.find(folder, {**settings, "detector": name})
        if record is None:
            started = time.perf_counter()
            at = at or detector_worlds.world(config)
            maker = makers.hoda(at.snapshots) if name == "hoda" else getattr(makers, name)
            result = judge(at, maker)
            timings = {"total_s": time.perf_counter() - started}
            records.write(
                folder, kind="detector", config={**settings, "detector": name}, result=result, timings=timings
            )
            record = records.find(folder, {**settings, "detector": name})
        found[name] = record
    title = f"{config.victim.dataset} ← {config.attack.pool}, {config.attack.budget} queries"
    note = provenance(list(found.values()))
    return [
        Table(f"Detectors, {title}", *_attacks(found), note),
        Table(f"False alarms in % of benign accounts at 1 % / 0.1 %, {title}", *_benign(found), note),
        Table(f"Identities and informed attackers, {title}", *_informed(found), note),
    ]


def _attacks(found: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Detector × attack."""
    headings = (
        "detector",
        "attack",
        "AUROC",
        "detected %, 1 %",
        "0.1 %",
        "queries answered",
        "accuracy then %",
        "without %",
    )
    rows = []
    for name, record in found.items():
        for attack, cell in record.result["attacks"].items():
            shares = [f"{100 * share:.0f}" for share in cell["detected"]]
            numbers = [f"{cell['queries']:.0f}", f"{cell['accuracy']:.1f}", f"{cell['undetected']:.1f}"]
            rows.append([name, attack, f"{cell['auroc']:.3f}", *shares, *numbers])
    return headings, rows


def _benign(found: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Detector × kind of benign account."""
    kinds = list(next(iter(found.values())).result["benign"])
    rows = [
        [name, *(" / ".join(f"{100 * share:.1f}" for share in record.result["benign"][kind]) for kind in kinds)]
        for name, record in found.items()
    ]
    return ("detector", *kinds), rows


def _informed(found: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Detector × what the first attack does about it: detected %, and the accuracy with what it had."""
    rows = []
    for name, record in found.items():
        cell = next(iter(record.result["attacks"].values()))
        ways = {**{f"{c} identities": v for c, v in cell["split"].items()}, **record.result["informed"]}
        rows += [
            [name, way, f"{100 * v['detected'][0]:.0f}", str(v["queries"]), f"{v['accuracy']:.1f}"]
            for way, v in ways.items()
        ]
    return ("detector", "Knockoff, with", "detected %", "queries answered", "accuracy %"), rows


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    with common.errors():
        tables = run(config)
    folder = config.runs / config.folder
    for table, name in zip(tables, ("detectors", "benign", "informed"), strict=True):
        path: Path = table.write(folder / f"{name}.md")
        table.print()
        print(path)


if __name__ == "__main__":
    main()
