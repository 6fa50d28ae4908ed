"""What a stolen model is good for: adversarial examples made on it, and how many of them evade the victim.

    python -m experiments.transfer --preset mnist_notmnist --attack.budget 2000        # about 20 minutes on 2 CPU cores

Trains a victim, puts each defense in front of it, steals it with each attacker that applies, makes adversarial examples
of test images on every stolen model by FGSM and PGD, and judges them on the victim itself, without its defense. Beside
the stolen models: the victim's own gradients (white box), a model trained on labelled images that the attacker has of
its own (the last of the test images, which nobody is judged on), and noise of the same size. Each defense's first row
is its worst case, the most that any attacker has. Expected on MNIST ← notMNIST, 2000 queries, seed 0, PGD 0.3: 66 %
evade without a defense, 56 to 71 in the worst case of every defense, 84 from own labelled images, 100 by the victim's
gradients (docs/results/transfer.md). Writes a record per run and a table, `attacker_gain.md`, into `runs/transfer`;
`--measure` shows another from the same records. A killed run goes on where it stopped.
"""

import dataclasses
import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from experiments import common, presets, worst_case
from pp_jax._command import command

Measure = Literal["attacker_gain", "evades_source", "evades_victim", "transferred", "same_class"]
SHARES: dict[Measure, str] = {
    "attacker_gain": "those that the victim is right about, whose examples evade the victim",
    "evades_source": "those that victim and source are right about, whose examples evade the source",
    "evades_victim": "those that victim and source are right about, whose examples evade the victim",
    "transferred": "those that both are right about and whose examples evade the source, that evade the victim as well",
    "same_class": "those that both are right about and whose examples evade both, that both take for the same class",
}
NOISE, WHITE_BOX, OWN_DATA = "noise of that size", "the victim's gradients", "own labelled images"


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Defenses × attackers × adversarial examples."""

    preset: presets.Name | None = None
    """Where the other options start: see `python -m experiments.presets`."""
    defense: tuple[str, ...] = worst_case.DEFENSES
    """Which: a class of pp_jax.defenses with its parameters, or yours, as in mine.py:Mine."""
    attackers: tuple[str, ...] = ("plain", "hard label", "inversion", "neighbours")
    """`standard`, `quick`, single members by name, or yours, as in mine.py:MINE."""
    radii: tuple[float, ...] = (0.1, 0.2, 0.3)
    """L∞ radii of the adversarial examples, in pixel units."""
    steps: int = 10
    """Of PGD."""
    judged: int = 500
    """Test images of which adversarial examples are made, the first ones."""
    own_images: int = 1000
    """Labelled images of the attacker that has data of its own, the last of the test set."""
    measure: Measure = "attacker_gain"
    """What the table shows: a field of `pp_jax.attacks.evasion.Transfer`; the records have all of them."""
    folder: str = "transfer"
    """Where below `runs` the records and the table go."""

    def checked_images(self) -> tuple[Any, Any]:
        """The images that examples are made of, and those of the attacker that has its own."""
        from pp_jax.evaluation import Images

        test = self.test()
        if not 1 <= self.judged <= len(test.images) - self.own_images or self.own_images < 1:
            raise ValueError(
                f"judged is {self.judged} and own_images {self.own_images}: must be at least 1 each, and together at "
                f"most {len(test.images)}, the test images of {test.name}"
            )
        last = len(test.images) - self.own_images
        judged = Images(test.images[: self.judged], test.labels[: self.judged], test.name)
        return judged, Images(test.images[last:], test.labels[last:], test.name)


def examples(config: Config) -> dict[str, Any]:
    """The columns: rules that make adversarial examples."""
    from pp_jax.attacks.evasion import FGSM, PGD

    fgsm = {f"FGSM {radius:g}": FGSM(radius) for radius in config.radii}
    pgd = {f"PGD {radius:g}": PGD(radius, steps=config.steps) for radius in config.radii}
    largest = max(config.radii)
    return {**fgsm, **pgd, f"PGD {largest:g} to a class": PGD(largest, steps=config.steps, targeted=True)}


def judge(config: Config, source: tuple[Any, Any], victim: Any, attack: Any) -> dict[str, Any]:
    """`Transfer` of the examples that one rule makes on a source, as a record has it."""
    import jax

    from pp_jax import metrics
    from pp_jax.attacks import evasion

    judged, _ = config.checked_images()
    craft_key, target_key = jax.random.split(jax.random.key(config.seeds[0]))
    classes = len(config.test().class_names)
    targets = evasion.random_targets(target_key, judged.labels, classes=classes) if attack.targeted else None
    labels = judged.labels if targets is None else targets
    adversarial = evasion.craft(craft_key, attack, *source, judged.images, labels)
    own, theirs = (functools.partial(metrics.predict, *model) for model in (source, (victim.network, victim.params)))
    return evasion.transfer(own, theirs, judged.images, adversarial, judged.labels, targets=targets)._asdict()


def kept(config: Config, source: tuple[Any, Any], victim: Any, attack: Any, folder: Path) -> Any:
    """The record of one rule on one source, computed if need be."""
    from pp_jax import records
    from pp_jax.results.identity import describe, tree_digest

    judged, _ = config.checked_images()
    settings = {
        "source": {"network": describe(source[0]), "params": tree_digest(source[1])},
        "victim": victim.identity,
        "examples": {"rule": describe(attack), "images": judged.identity, "seed": config.seeds[0]},
    }

    def compute() -> None:
        started = time.perf_counter()
        result = judge(config, source, victim, attack)
        timings = {"total_s": time.perf_counter() - started}
        records.write(folder, kind="transfer", config=settings, result=result, timings=timings)

    return records.once(folder, settings, compute, wait=True)


def own_model(config: Config) -> tuple[Any, Any]:
    """A model of the attacker's architecture, trained on labelled images of its own."""
    import jax

    from pp_jax import training

    network, (_, own) = config.network(), config.checked_images()
    return network, training.fit(
        jax.random.key(config.seeds[0]), network, own.images, own.labels, config.attack.recipe(), params=config.start()
    )


def sources(config: Config, report: Any, victim: Any) -> Iterator[tuple[str, str, float | None, tuple[Any, Any]]]:
    """Defense, attacker, accuracy in % and model: of the baselines, then of everything that was stolen."""
    from pp_jax import evaluation, metrics

    test, network = config.test(), config.network()
    own = own_model(config)
    for name, model in ((WHITE_BOX, (victim.network, victim.params)), (OWN_DATA, own)):
        yield "—", name, 100 * metrics.accuracy(metrics.predict(*model, test.images), test.labels), model
    for row in report.rows:
        for record in row.records:
            model = evaluation.stolen_model(record, network)
            name = record.config["attack"]["name"]
            yield row.name, name, 100 * record.result["attacker_accuracy"], model


class Line(NamedTuple):
    """A source, its accuracy in %, and what came of its examples, by rule."""

    source: str
    accuracy: float | None
    shares: list[float | None]

    def texts(self, columns: int) -> list[str]:
        """The cells of a row; a dash for what there is not."""
        shares = [None if share is None else 100 * share for share in self.shares]
        values = [self.accuracy, *shares, *[None] * (columns - len(shares))]
        return [self.source, *("—" if value is None else f"{value:.1f}" for value in values)]


def worst(lines: list[Line]) -> Line:
    """The most that any attacker has, column by column."""
    accuracy, *shares = (
        max((value for value in values if value is not None), default=None)
        for values in zip(*([line.accuracy, *line.shares] for line in lines), strict=True)
    )
    return Line("**worst case**", accuracy, shares)


def run(config: Config) -> Any:
    """Steal what is missing, make and judge the examples; the table."""
    from pp_jax.attacks.evasion import RandomSigns
    from pp_jax.results.tables import Table, provenance

    if len(config.seeds) != 1:
        raise ValueError(f"seeds is {config.seeds}: must be one seed")
    if not config.radii:
        raise ValueError("radii is empty: must hold at least one")
    rules, folder = examples(config), config.runs / config.folder
    config.checked_images()
    tried = common.attacker_set(config.attackers)
    report = config.evaluate(common.parsed(config.defense), tried, config.folder, keep_models=True)
    victim = config.trained()
    own = victim.network, victim.params
    noise = [kept(config, own, victim, RandomSigns(radius), folder) for radius in config.radii]
    behind, groups = list(noise), {"—": [Line(NOISE, None, [record.result[config.measure] for record in noise])]}
    for defense, attacker, accuracy, model in sources(config, report, victim):
        several = [kept(config, model, victim, rule, folder) for rule in rules.values()]
        behind += several
        shares = [record.result[config.measure] for record in several]
        groups.setdefault(defense, []).append(Line(attacker, accuracy, shares))
    for defense, lines in groups.items():
        if defense != "—":
            lines.insert(0, worst([line for line in lines if line.source not in report.privileged]))
    rows = [[defense, *line.texts(len(rules))] for defense, lines in groups.items() for line in lines]
    note = (
        f"Of {config.judged} test images, the share in % of {SHARES[config.measure]}. To evade: to be taken for "
        "another class than its own, or, where one was drawn at random, for that. L∞, radius in pixel units; PGD of "
        f"{config.steps} steps from a random start. Accuracy of the source on all test images. Seed {config.seeds[0]}. "
        + provenance(behind)
    )
    return Table(f"Transfer, {report.title}", ("defense", "source of the examples", "accuracy", *rules), rows, note)


@command()
def main() -> None:
    """Command line."""
    config = presets.cli(Config, __doc__)
    common.show(lambda: run(config), config.runs / config.folder / f"{config.measure}.md")


if __name__ == "__main__":
    main()
