"""Marks of ownership: what a stolen model still carries after defenses and recoveries, and who is accused wrongly.

    python -m experiments.ownership                        # MNIST ← notMNIST, about 45 minutes
    python -m experiments.ownership --marks 'DAWN, 2 %' --seeds 0 1

Each mark is stolen plainly, through every perturbation defense chained behind it, and by attackers who recover the
responses or train on with images of their own. The victim is trained on the first half of the training images; models
that never saw a mark are trained on parts of the same half, on parts of the other, and on what a victim of the other
half answers to the same pool. A third of these are the defender's references, the others are accused wrongly or not.
Writes a record per stolen model, `ownership.md`, `accused.md` and `costs.md` into `runs/ownership`. A killed run goes
on where it stopped. Times are for 2 CPU cores.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import tyro

from experiments import common
from experiments.ownership_worlds import FATES, HONEY, KINDS, SOURCE, TARGET, Fate, Stolen, World
from experiments.victims import VictimOptions
from pp_jax._command import command

MARKS = ("DAWN, 0.5 %", "DAWN, 2 %", "Honeytrace", "KeyedSwap", "EWE", "dataset inference")
TESTS = {
    "DAWN, 0.5 %": ("ledger", "other keys"),
    "DAWN, 2 %": ("ledger", "other keys"),
    "KeyedSwap": ("ledger", "other keys"),
    "Honeytrace": ("triggers", "other keys"),
    "EWE": ("triggers",),
    "dataset inference": ("blind walk", "gradients"),
}


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Marks × fates × seeds."""

    victim: VictimOptions = dataclasses.field(
        default_factory=lambda: VictimOptions(train_size=30_000, epochs=4, decay_every=3)
    )
    attack: common.AttackOptions = dataclasses.field(
        default_factory=lambda: common.AttackOptions(pool="notmnist", budget=2000, epochs=8)
    )
    marks: tuple[str, ...] = MARKS
    """Which."""
    fates: tuple[str, ...] = ()
    """Only these of what a mark goes through, by name; all by default. Costs and false claims need the first."""
    others: int = 199
    """Unused keys that the used one is compared with; the smallest p-value is 1/(others + 1)."""
    triggers: int = 100
    """Triggers that a claim is made with."""
    samples: int = 25
    """Training images, and as many new ones, that a claim of dataset inference is made with."""
    independents: int = 3
    """Models of each kind that never saw a mark; every third is a reference of the defender's."""
    independent_size: int = 10_000
    """Training images of these."""
    entanglement: float = 1.0
    """Weight of the entangled watermark's loss."""
    folder: str = "ownership"
    """Where below `runs` the records and the tables go."""

    def everything(self) -> Any:
        """All training images of the victim's data set."""
        return common.images(self.victim.dataset, "train", self.data_dir)

    def check(self) -> None:
        """Refuse what cannot be run, before anything is trained."""
        if unknown := sorted(set(self.marks) - set(MARKS)):
            raise ValueError(f"marks has {unknown[0]!r}: must be of {'; '.join(MARKS)}")
        known = {fate.name for mark in self.marks for fate in fates_of(mark)}
        if unknown := sorted(set(self.fates) - known):
            raise ValueError(f"fates has {unknown[0]!r}: must be of {'; '.join(sorted(known))}")
        size, total = self.victim.train_size, len(self.everything().images)
        if size is None or size + self.independent_size > total:
            raise ValueError(
                f"victim.train_size is {size}: must leave {self.independent_size} of {total} images for other models"
            )
        if self.independents < 3:
            raise ValueError(f"independents is {self.independents}: must be at least 3, one of them a reference")


def marking(mark: str) -> list[Any]:
    """The defense that puts a mark into responses; none where it is in the victim."""
    from pp_jax import Entry
    from pp_jax.defenses import DAWN, Honeytrace, KeyedSwap

    found = {
        "DAWN, 0.5 %": Entry(DAWN, share=0.005),
        "DAWN, 2 %": Entry(DAWN, share=0.02),
        "Honeytrace": Entry(Honeytrace, target=HONEY),
        "KeyedSwap": Entry(KeyedSwap),
    }
    return [found[mark]] if mark in found else []


def victim_of(world: World, mark: str) -> Any:
    """The victim that carries a mark."""
    return world.entangled if mark == "EWE" else world.plain


def references(world: World) -> list[Any]:
    """The defender's own models without a mark."""
    return [model for kind in KINDS for model in world.independents(kind)[::3]]


def tests_of(world: World, mark: str, stolen: Stolen) -> dict[str, Callable[[Any], Any]]:
    """The tests of a mark by name: a suspect in, a claim out."""
    import jax
    import numpy as np

    from pp_jax import ownership
    from pp_jax.defenses.honeytrace import mixtures

    config, classes = world.config, stolen.probs.shape[1]
    if mark == "dataset inference":
        return data_tests(world, classes)
    if mark in ("Honeytrace", "EWE"):
        test = config.test()
        images, target = ownership.patched(test.images[np.asarray(test.labels) == SOURCE][: config.triggers]), TARGET
        if mark == "Honeytrace":
            target, key = HONEY, jax.random.key(world.seed + 77)
            images = mixtures(key, *world.halves[0], target=target, count=config.triggers)
        trigger = ownership.TriggerMark.against(images, target, references(world), classes=classes)
        found: dict[str, Callable[[Any], Any]] = {"triggers": trigger.verify}
        return found if mark == "EWE" else {**found, "other keys": other_keys(config, stolen)}
    ledger = ownership.Ledger.of(stolen.defense, stolen.key, stolen.images, stolen.probs)
    kept = ownership.LedgerMark(ledger) if ledger.uniform else ownership.LedgerMark.against(ledger, references(world))
    return {
        "ledger": functools.partial(kept.verify, key=stolen.key, significance=0.05),
        "other keys": other_keys(config, stolen),
    }


def other_keys(config: Config, stolen: Stolen) -> Callable[[Any], Any]:
    """The test against unused keys, on all that the client asked."""
    from pp_jax.ownership import OtherKeys

    return OtherKeys(stolen.images, stolen.probs, stolen.defense, stolen.key, config.others).verify


@functools.lru_cache(maxsize=2)
def data_tests(world: World, classes: int) -> dict[str, Callable[[Any], Any]]:
    """Both forms of dataset inference, fitted to the victim; steps for pixels that are black or white."""
    from pp_jax import ownership

    plain, more = world.plain, 50 + world.config.samples
    members, others = plain.images[:more], world.halves[1][0][:more]
    victim = ownership.Model(plain.network, plain.params)
    probes: dict[str, Any] = {
        "blind walk": ownership.BlindWalk(30, laplace=0.05, normal=0.05, uniform=0.05),
        "gradients": ownership.MinimalDistances(20, l1=2.0, l2=0.2, linf=0.02, entries=10),
    }
    fitted = functools.partial(
        ownership.DatasetInference.fitted, victim, members, others, classes=classes, samples=world.config.samples
    )
    return {name: fitted(probe).verify for name, probe in probes.items()}


def measure(world: World, mark: str, fate: Fate) -> dict[str, Any]:
    """One stolen model: what the mark says of it; for the first fate also of models that never saw it, and its cost."""
    import jax

    from pp_jax import BlackBox, chain, metrics
    from pp_jax.evaluation.judging import ask
    from pp_jax.evaluation.setups import deploy

    test = world.config.test()
    victim, own = victim_of(world, mark), marking(mark)
    stolen = world.steal(victim, own, fate)
    tests = tests_of(world, mark, stolen)
    found: dict[str, Any] = {
        "accuracy": metrics.accuracy(stolen.model(test.images), test.labels),
        "claims": {name: told(verify(stolen.model)) for name, verify in tests.items()},
        "query_l1": metrics.distances(stolen.probs, stolen.answers)["l1"]["mean"],
        "query_kept": metrics.agreement(stolen.answers, stolen.probs),
    }
    if fate != FATES[0]:
        return found
    links: list[Any] = [deploy(world.setup(victim), entry, world.seed).box.defense for entry in own]
    box = BlackBox(victim.network, victim.params, chain(*links), jax.random.key(world.seed), batch_size=500)
    answers, clean = ask(box, test.images)
    found["cost"] = {
        "victim": metrics.accuracy(clean, test.labels),
        "defender": metrics.accuracy(answers, test.labels),
        "l1": metrics.distances(clean, answers)["l1"]["mean"],
    }
    innocent = {kind: [model for number, model in enumerate(world.independents(kind)) if number % 3] for kind in KINDS}
    found["independent"] = {
        name: {kind: [told(verify(model)) for model in models] for kind, models in innocent.items()}
        for name, verify in tests.items()
    }
    return found


def told(claim: Any) -> dict[str, float]:
    """A claim as a record has it."""
    return {"p_value": float(claim.p_value), "effect": float(claim.effect), "samples": int(claim.samples)}


def fates_of(mark: str) -> list[Fate]:
    """What a mark goes through; a swap is not chained with itself."""
    if mark == "DAWN, 0.5 %":
        return [FATES[0]]
    if mark == "dataset inference":
        return [fate for fate in FATES if fate.then in (None, "Top1", "MAD(epsilon=0.99)") and fate.recovery == "plain"]
    if mark != "KeyedSwap":
        return list(FATES)
    alone = [fate for fate in FATES if fate.then != "KeyedSwap"]
    return [*alone, Fate("neighbours", None, "neighbours")]


def run(config: Config) -> list[Any]:
    """Compute what is missing; the three tables."""
    from pp_jax import records
    from pp_jax.results.tables import Table, provenance

    config.check()
    folder = config.runs / config.folder
    records.check_writable(folder)
    found: dict[tuple[str, str], list[Any]] = {}
    for seed in config.seeds:
        world = World(config, seed)
        for mark in config.marks:
            for fate in fates_of(mark):
                if config.fates and fate.name not in config.fates:
                    continue
                settings = {
                    "victim": config.victim.settings(), "attack": dataclasses.asdict(config.attack), "seed": seed,
                    "mark": mark, "fate": dataclasses.asdict(fate), "others": config.others,
                    "triggers": config.triggers, "samples": config.samples, "independents": config.independents,
                    "size": config.independent_size, "entanglement": config.entanglement,
                }  # fmt: skip

                def work(world: Any = world, mark: Any = mark, fate: Any = fate, settings: Any = settings) -> None:
                    started = time.perf_counter()
                    result = measure(world, mark, fate)
                    timings = {"total_s": time.perf_counter() - started}
                    records.write(folder, kind="ownership", config=settings, result=result, timings=timings)

                found.setdefault((mark, fate.name), []).append(records.once(folder, settings, work, wait=True))
    title = f"{config.victim.dataset} ← {config.attack.pool}, {config.attack.budget} queries"
    note = "Of several seeds the median p-value. " + provenance([each for rows in found.values() for each in rows])
    return [
        Table(f"What a stolen model carries, {title}", *_carried(found), note),
        Table(f"Models that never saw the mark, {title}", *_accused(found), note),
        Table(f"What a mark costs, {title}", *_costs(found), note),
    ]


def _carried(found: Mapping[tuple[str, str], list[Any]]) -> tuple[list[str], list[list[str]]]:
    """Mark × fate × test."""
    import numpy as np

    from pp_jax.ownership import rank_p_value
    from pp_jax.results.tables import percent

    rows = []
    for (mark, fate), records in found.items():
        accuracy = percent([record.result["accuracy"] for record in records])
        base = found.get((mark, FATES[0].name), [])
        for test in TESTS[mark]:
            claims = [record.result["claims"][test] for record in records]
            ranks = [
                rank_p_value(
                    claim["effect"], [c["effect"] for cs in each.result["independent"][test].values() for c in cs]
                )
                for claim, each in zip(claims, base, strict=False)
            ]
            p_value = float(np.median([claim["p_value"] for claim in claims]))
            effect = float(np.mean([claim["effect"] for claim in claims]))
            rank = f"{float(np.median(ranks)):.2g}" if ranks else "—"
            claimed = f"{sum(claim['p_value'] <= 0.01 for claim in claims)}/{len(claims)}"
            rows.append([mark, fate, accuracy, test, f"{effect:.2f}", f"{p_value:.2g}", claimed, rank])
    headings = ["mark", "what happens", "stolen %", "test", "effect", "p-value", "claimed at 1 %", "p by rank"]
    return headings, rows


def _accused(found: Mapping[tuple[str, str], list[Any]]) -> tuple[list[str], list[list[str]]]:
    """Mark × test × kind of independent model."""
    rows = []
    for (mark, fate), records in found.items():
        if fate != FATES[0].name:
            continue
        for test in TESTS[mark]:
            cells, least = [], []
            for kind in KINDS:
                claims = [c for record in records for c in record.result["independent"][test][kind]]
                p_values = [claim["p_value"] for claim in claims]
                least.append(min(p_values))
                cells.append(f"{sum(p <= 0.01 for p in p_values)}/{len(p_values)}")
            five = [
                c["p_value"] <= 0.05
                for record in records
                for cs in record.result["independent"][test].values()
                for c in cs
            ]
            rows.append([mark, test, *cells, f"{sum(five)}/{len(five)}", f"{min(least):.2g}"])
    return ["mark", "test", *KINDS, "all, at 5 %", "smallest p"], rows


def _costs(found: Mapping[tuple[str, str], list[Any]]) -> tuple[list[str], list[list[str]]]:
    """Mark × cost."""
    from pp_jax.results.tables import percent, spread

    rows = []
    for (mark, fate), records in found.items():
        if fate == FATES[0].name:
            costs = [record.result["cost"] for record in records]
            rows.append(
                [
                    mark,
                    percent([cost["victim"] for cost in costs]),
                    percent([cost["defender"] for cost in costs]),
                    spread([cost["l1"] for cost in costs], digits=3),
                    spread([record.result["query_l1"] for record in records], digits=3),
                    percent([record.result["query_kept"] for record in records]),
                ]
            )
    headings = ["mark", "victim %", "defender %", "mean L1, test", "mean L1, queries", "labels kept, queries %"]
    return headings, rows


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    with common.errors():
        tables = run(config)
    folder = config.runs / config.folder
    for table, name in zip(tables, ("ownership", "accused", "costs"), strict=True):
        path = table.write(folder / f"{name}.md")
        table.print()
        print(path)


if __name__ == "__main__":
    main()
