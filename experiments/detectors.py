"""Detectors by account: what each sees of every attack, and how often it accuses a benign account.

    python -m experiments.detectors                                  # MNIST ← font_letters, about 15 minutes
    python -m experiments.detectors --attack.pool notmnist --attack.budget 4000

Detectors are fitted on half of the victim's test images, and their thresholds set on benign accounts that query as many
images of that half as the attacker's budget (uniformly at random), at false-alarm rates of 1 % and 0.1 % per account.
All else is measured on the other half. An attacker is stopped at its first alarm; its accuracy is that of a model
trained on what it had by then. Then the same with its budget split over several identities, with benign-looking queries
mixed in, and for an attacker who runs the very detector and picks, query by query, the least suspicious of 16 images.
Writes a record per detector, `detectors.md`, `benign.md` and `informed.md` into `runs/detectors`.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from experiments import common
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
    measured: int = 200
    """Accounts of each other kind."""
    identities: tuple[int, ...] = (1, 10, 100, 1000)
    """Over how many accounts an attacker splits its budget."""
    mixtures: tuple[float, ...] = (0.5, 0.9)
    """Shares of benign-looking queries that an informed attacker mixes in."""
    own_images: int = 100
    """Images of the victim's distribution that this attacker owns."""
    detectors: tuple[str, ...] = ()
    """Names of functions in `pp_jax.detection.makers`; all by default."""
    folder: str = "detectors"
    """Where below `runs` the records and the tables go."""


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """What all detectors are tried on.

    Attributes:
        victim: with network, parameters and snapshots by epoch.
        fitted: benign images that detectors are made from, with their classes.
        kinds: benign accounts by kind: the pool and the streams.
        attacks: attacking accounts by attack: the pool and the streams, (A, n).
        accuracy: accuracy in % of a model trained on so many queries of an attack.
    """

    victim: Any
    snapshots: list[Any]
    fitted: tuple[Any, Any]
    calibration: Any
    kinds: Mapping[str, tuple[Any, Any]]
    attacks: Mapping[str, tuple[Any, Any]]
    own: tuple[Any, Any]
    accuracy: Callable[[str, Any], float]


def world(config: Config) -> World:
    """The victim, its benign accounts and its attackers."""
    import jax
    import numpy as np

    from pp_jax import detection, training
    from pp_jax._checks import name_of
    from pp_jax.data.drift import DRIFTS, drifted
    from pp_jax.detection import benign

    victim, test, n = config.trained(), config.test(), config.attack.budget
    network, params, key = victim.network, victim.params, jax.random.key(config.seeds[0])
    half = len(test.images) // 2
    order = np.random.default_rng(0).permutation(len(test.images))
    first, second = order[:half], order[half:]
    truth = np.asarray(test.labels)
    fitted = detection.observe(network, params, test.images[first])
    other = detection.observe(network, params, test.images[second])
    kinds = {
        name_of(habit): (other, habit(jax.random.fold_in(key, i), truth[second], config.measured, n))
        for i, habit in enumerate(benign.HABITS)
    }
    for drift in DRIFTS:
        seen = detection.observe(network, params, drifted(key, test.images[second], drift))
        kinds[str(drift)] = seen, kinds["uniform"][1]
    snapshots: list[Any] = []
    training.fit(
        key, network, victim.images[:10_000], victim.labels[:10_000], training.Recipe(6, 64, 0.05),
        on_epoch=lambda state, _: snapshots.append(jax.tree.map(np.array, state.params)),
    )  # fmt: skip
    attacks = attackers(config, victim)
    stolen = _Accuracy(config, victim, {name: seen for name, (seen, _) in attacks.items()})
    calm = benign.uniform(key, truth[first], config.accounts, n)
    own = detection.observe(network, params, test.images[second][: config.own_images])
    return World(victim, snapshots, (fitted, truth[first]), calm, kinds, attacks, (own, truth[second]), stolen)


def attackers(config: Config, victim: Any) -> dict[str, tuple[Any, Any]]:
    """The queries of each attack on the undefended victim: a pool as the victim sees it, and accounts' streams."""
    import jax
    import numpy as np

    from pp_jax import BlackBox, attacks, detection, training
    from pp_jax.data.reshaping import as_mnist

    n, pool, network = config.attack.budget, config.pool(), config.network()
    key, rng = jax.random.key(config.seeds[0]), np.random.default_rng(config.seeds[0])
    rows = rng.permutation(len(pool.images))[: max(4 * n, 8000)]
    pictures = pool.images[rows]

    def random_order(images: Any) -> tuple[Any, Any]:
        seen = detection.observe(victim.network, victim.params, images)
        accounts = [rng.choice(len(images), n, replace=n > len(images)) for _ in range(config.measured)]
        return seen, np.stack(accounts)

    found = {f"Knockoff, {pool.name}": random_order(pictures)}
    if pictures.shape[1:] == (28, 28, 1):
        found[f"Knockoff, {pool.name} as MNIST"] = random_order(as_mnist(pictures))
    noise = rng.integers(0, 256, (4000, *pictures.shape[1:]), np.uint8)
    found["random noise"] = random_order(noise)
    substitute = training.Recipe(5, learning_rate=0.05, momentum=0.9)
    classes = common.known_classes(dataclasses.replace(pool, images=pictures, labels=np.asarray(pool.labels)[rows]))
    test = config.test()
    made: dict[str, tuple[Any, Any]] = {
        "adaptive Knockoff": (attacks.AdaptiveKnockoff(classes, thief=network, batch_size=50), pictures),
        "JBDA": (attacks.jbda(network, recipe=substitute, seed_size=100), test.images[-1000:]),
        "JB-top3": (attacks.jb_topk(network, recipe=substitute, seed_size=100), test.images[-1000:]),
    }
    for name, (strategy, start) in made.items():
        api = BlackBox(victim.network, victim.params).api()
        transfer = attacks.collect(key, strategy, start, api, budget=n)
        seen = detection.observe(victim.network, victim.params, transfer.images)
        found[name] = seen, np.arange(len(transfer.images))[None]
    return found


class _Accuracy:
    """Accuracy in % of models trained on the first queries of a stream; each is trained once."""

    def __init__(self, config: Config, victim: Any, pools: Mapping[str, Any]) -> None:
        self._config, self._victim, self._pools = config, victim, pools
        self._known: dict[Any, float] = {}

    def __call__(self, attack: str, rows: Any) -> float:
        import jax
        import numpy as np

        from pp_jax import metrics, training

        rows = np.asarray(rows)
        key = attack, rows.tobytes()
        if len(rows) < 2:
            return 100 / len(self._config.test().class_names)
        if key not in self._known:
            seen, test = self._pools[attack], self._config.test()
            network, recipe = self._config.network(), self._config.attack.recipe()
            recipe = dataclasses.replace(recipe, batch_size=min(recipe.batch_size, len(rows)))
            images, probs = np.asarray(seen.images)[rows], np.asarray(seen.probs)[rows]
            params = training.fit(jax.random.key(self._config.seeds[0]), network, images, probs, recipe)
            predicted = metrics.predict(network, params, test.images)
            self._known[key] = 100 * metrics.accuracy(predicted, test.labels)
        return self._known[key]


def judge(config: Config, at: World, maker: Callable[..., Any]) -> dict[str, Any]:
    """What one detector comes to: by attack, by benign kind, and against informed attackers."""
    import jax
    import numpy as np

    from pp_jax import detection
    from pp_jax.detection import evading

    key, n = jax.random.key(config.seeds[0] + 1), config.attack.budget
    detector = maker(key, at.victim.network, at.victim.params, *at.fitted)
    calm = detection.watch(detector, at.fitted[0], at.calibration)
    limits = [detection.threshold(calm, rate) for rate in RATES]
    benign = {kind: np.asarray(detection.watch(detector, *streams)) for kind, streams in at.kinds.items()}

    def stopped(attack: str, streams: Any, seen: Any, hide: Any = None) -> dict[str, Any]:
        """What accounts of one attacker get before their alarms at the first rate."""
        scores = np.asarray(detection.watch(detector, seen, streams))
        alarms = [detection.first_alarm(scores, limit) for limit in limits]
        before = [row[: int(min(alarm, n))] for row, alarm in zip(streams, alarms[0], strict=True)]
        had = np.concatenate(before) if len(before) > 1 else before[0]
        if hide is not None:
            had = had[had >= hide] - hide
        return {
            "detected": [float(np.isfinite(a).mean()) for a in alarms],
            "queries": float(np.median(np.minimum(alarms[0], streams.shape[1]))),
            "had": len(had),
            "accuracy": at.accuracy(attack, had),
        }

    found: dict[str, Any] = {"memory": detection.memory(detector), "thresholds": limits, "attacks": {}, "informed": {}}
    found["benign"] = {
        kind: [float((scores.max(axis=1) > limit).mean()) for limit in limits] for kind, scores in benign.items()
    }
    for name, (seen, streams) in at.attacks.items():
        scores = np.asarray(detection.watch(detector, seen, streams))
        one = stopped(name, streams[:1], seen)
        rates = [float(np.isfinite(detection.first_alarm(scores, limit)).mean()) for limit in limits]
        one |= {"auroc": evading.auroc(benign["uniform"], scores), "detected": rates}
        one["undetected"] = at.accuracy(name, streams[0])
        one["split"] = {
            str(count): stopped(name, evading.split(streams[0], count), seen)
            for count in config.identities
            if count <= streams.shape[1]
        }
        found["attacks"][name] = one
    name, (seen, streams) = next(iter(at.attacks.items()))
    own, cover = at.own[0], config.own_images
    both = detection.Observed(*(jax.numpy.concatenate([a, b]) for a, b in zip(own, seen, strict=True)))
    for share in config.mixtures:
        rows = evading.mixed(key, streams[0] + cover, np.arange(cover), share)[None]
        found["informed"][f"{share:.0%} own images mixed in"] = stopped(name, rows, both, hide=cover)
    rows = evading.evading(key, detector, seen, queries=n)[None]
    found["informed"]["least suspicious of 16"] = stopped(name, rows, seen)
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
    folder = config.runs / config.folder
    records.check_writable(folder)
    settings = {
        "victim": config.victim.settings(), "attack": dataclasses.asdict(config.attack), "seed": config.seeds[0],
        "accounts": config.accounts, "measured": config.measured, "identities": list(config.identities),
        "mixtures": list(config.mixtures), "own_images": config.own_images,
    }  # fmt: skip
    found, at = {}, None
    for name in names:
        record = records.find(folder, {**settings, "detector": name})
        if record is None:
            started = time.perf_counter()
            at = at or world(config)
            maker = makers.hoda(at.snapshots) if name == "hoda" else getattr(makers, name)
            result = judge(config, at, maker)
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
        Table(f"Identities and informed attackers, {title}", *_informed(found, config), note),
    ]


def _attacks(found: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Detector × attack."""
    headings = (
        "detector",
        "attack",
        "AUROC",
        "detected %, 1 %",
        "0.1 %",
        "queries to alarm",
        "accuracy then %",
        "else",
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


def _informed(found: Mapping[str, Any], config: Config) -> tuple[Sequence[str], list[list[str]]]:
    """Detector × what the first attack does about it: detected %, and the accuracy with what it had."""
    rows = []
    for name, record in found.items():
        cell = next(iter(record.result["attacks"].values()))
        ways = {**{f"{c} identities": v for c, v in cell["split"].items()}, **record.result["informed"]}
        rows += [
            [name, way, f"{100 * v['detected'][0]:.0f}", str(v["had"]), f"{v['accuracy']:.1f}"]
            for way, v in ways.items()
        ]
    return ("detector", "first attack, with", "detected %", "queries answered", "accuracy %"), rows


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
