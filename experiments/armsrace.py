"""The arms race: every defense against every attacker, at equal cost to the answers.

    python experiments/armsrace.py --attack.pool notmnist             # about 2 hours on 2 CPU cores
    python experiments/armsrace.py --attack.budget 4000 --attack.epochs 8 --seeds 0    # 10 minutes

Brings every defense to the same mean L1 distance on the thief's pool, steals through it with attackers who do and who
do not know that it is there, and shows for each defense the attacker it stops worst. With `--accuracy-loss` also to the
same loss of the defender's accuracy, in percentage points: calibrated on the first half of the test images and reported
on all of them; a defense that cannot lose so much, as it keeps the top class, is raced at its full strength. With
`--published` also at the setting that its authors report, if they report one. Writes a record per cell, `armsrace.md`,
`armsrace.png` and a self-contained `armsrace.html` into `runs/armsrace`. A killed run resumes where it stopped.

Adaptive misinformation is raced on a victim of its own, trained with outlier exposure; GRAD² with the surrogate that it
was published with, distilled from the victim.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tyro

import steal
from cells import grid, loading, tables
from cells.machines import Machines
from owners import entrants, families
from owners.defenses import Defense, Name
from owners.entrants import Entrant, Start
from owners.surrogates import Surrogate
from thieves import recovering
from thieves.attackers import Attack, Labels
from train_victim import Victim

ATTACKERS: tuple[Labels, ...] = (
    "soft",
    "top1",
    "confident",
    "balanced",
    "partial_bayes",
    "ddae_plus",
    "inverted",
    "inverted_weights",
    "relabelled",
    "genuine",
)
L1_TOLERANCE = 0.05
_UNTOLD = ("outliers", "network_epochs", "members", "capacity")  # alike in the whole race


@dataclasses.dataclass(frozen=True)
class Config:
    """Defenses × budgets × attackers × seeds."""

    victim: Victim = dataclasses.field(default_factory=Victim)
    attack: Attack = dataclasses.field(default_factory=Attack)
    """Pool, budget and training of all attackers; what they train on is given below."""
    defenses: tuple[Name, ...] = tuple(name for name in families.FAMILIES if name not in families.LOST)
    """Which families."""
    l1: tuple[float, ...] = (0.5, 0.99)
    """What each may cost: mean L1 distance of its answers to the pool."""
    accuracy_loss: tuple[float, ...] = ()
    """What each may cost: percentage points of the defender's accuracy."""
    published: bool = False
    """Race each at its published setting as well."""
    outliers: str = "omniglot_28"
    """What adaptive misinformation's victim is exposed to, and EDM's models are to disagree on."""
    attackers: tuple[Labels, ...] = ATTACKERS
    """What the attackers train on: the answers, their argmax, or what they recover from them."""
    surrogate: Surrogate = dataclasses.field(default_factory=Surrogate)
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each repeats every theft; the victim stays."""
    runs: Path = Path("runs")
    """Folder of all results."""
    folder: str = "armsrace"
    """Where below it the cells, the table and the figures go."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""
    machines: tyro.conf.OmitArgPrefixes[Machines] = dataclasses.field(default_factory=Machines)

    def cells(self, entrant: Entrant, labels: Labels) -> list[steal.Config]:
        """One configuration per seed."""
        attack = dataclasses.replace(self.attack, labels=labels)
        victim = dataclasses.replace(self.victim, outliers=self.outliers) if entrant.exposed else self.victim
        surrogate = entrant.surrogate or self.surrogate
        defense = dataclasses.replace(entrant.defense, outliers=self.outliers)
        cell = steal.Config(victim, attack, defense, surrogate, runs=self.runs, data_dir=self.data_dir)
        return cell.over(self.seeds)


class Row(NamedTuple):
    """One defense at one budget.

    Attributes:
        defense: calibrated.
        l1: what it may cost; None for no defense.
        met: whether calibration got there.
        thieves: accuracies over seeds in %, by attacker.
        defender: its accuracies in %.
        spent: mean L1 distance of the answers to the thief's queries.
        chance: accuracy of guessing in %.
        note: what the defense's name does not say: its budget, its victim.
    """

    defense: Defense
    l1: float | None
    met: bool
    thieves: Mapping[Labels, Sequence[float]]
    defender: Sequence[float]
    spent: float
    chance: float
    note: str = ""

    @property
    def name(self) -> str:
        """The defense in words."""
        from pp_jax.results import summary

        shown = {name: value for name, value in self.defense.settings().items() if name not in _UNTOLD}
        name = summary.describe_defense(shown)
        return f"{name} ({self.note})" if self.note else name

    @property
    def worst(self) -> Labels:
        """The attacker who gets most."""
        return max(self.thieves, key=lambda labels: sum(self.thieves[labels]))

    def doubts(self) -> list[str]:
        """Why this row should not be trusted; empty if nothing speaks against it."""
        found = []
        if not self.met:
            budget = "budget" if self.l1 is None else f"budget of {self.l1:g}"
            found.append(f"{budget} not reached in calibration")
        elif self.l1 is not None and abs(self.spent - self.l1) > L1_TOLERANCE:
            found.append(f"mean L1 on the queries is {self.spent:.2f}, not {self.l1:g}")
        if mean(self.defender) < 2 * self.chance:
            found.append("the defender answers no better than at random")
        for labels, accuracies in self.thieves.items():
            if mean(accuracies) < self.chance / 2:
                found.append(
                    f"{recovering.NAMES[labels]} is below chance: what is wrong so reliably can be turned round"
                )
        return found


def run(config: Config) -> list[Row]:
    """Calibrate, compute what is missing; the rows."""
    check(config)
    starts = [Start(Entrant(Defense("none"))), *entrants.entered(config)]
    thefts = [
        {
            labels: config.cells(start.entrant, labels)
            for labels in config.attackers
            if recovering.possible(labels, start.entrant.defense)
        }
        for start in starts
    ]
    every = dict.fromkeys(cell for cells in thefts for over_seeds in cells.values() for cell in over_seeds)
    found = grid.run(list(every), config.folder, config.machines)
    return [_row(start, cells, found) for start, cells in zip(starts, thefts, strict=True)]


def check(config: Config) -> None:
    """Refuse what can be seen to be wrong before long work starts.

    Raises:
        ValueError: naming the option, its value and what it must be.
    """
    for option in ("defenses", "attackers", "seeds"):
        if not getattr(config, option):
            raise ValueError(f"{option} is empty: must name at least one")
    if not (config.l1 or config.accuracy_loss or config.published):
        raise ValueError("l1 and accuracy_loss are empty and published is not asked for: there is nothing to race at")
    for option, most in (("l1", 2), ("accuracy_loss", 100)):
        for value in getattr(config, option):
            if not 0 < value <= most:
                raise ValueError(f"{option} is {value:g}: must be above 0 and at most {most}")
    if config.attack.name not in ("knockoff", "seeking"):
        raise ValueError(f"attack.name is {config.attack.name}: must be knockoff or seeking, as a pool is asked about")
    for name in config.defenses:
        if name not in families.FAMILIES:
            known = ", ".join(families.FAMILIES)
            raise ValueError(f"defenses has {name}: must be of {known}; the undefended victim races unasked")
        like = config.cells(Entrant.of(Defense(name)), "soft")[0]
        steal.check(like, folder=config.folder)
        loading.checked(like)


def _row(start: Start, cells: Mapping[Labels, Sequence[steal.Config]], found: Mapping[Any, Any]) -> Row:
    """What came of an entrant, from its cells by attacker."""

    def of(labels: Labels, *path: str) -> list[float]:
        return [value for value in tables.of(cells[labels], found, *path) if value is not None]

    first = next(iter(cells))
    return Row(
        start.entrant.defense,
        start.l1,
        start.met,
        {labels: [100 * value for value in of(labels, "attacker_accuracy")] for labels in cells},
        [100 * value for value in of(first, "defender_accuracy")],
        mean(of(first, "query_l1", "mean")),
        100 * of(first, "chance")[0],
        start.note,
    )


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def interval(values: Sequence[float]) -> str:
    """Mean ± the half-width of Student's 95 % confidence interval, for several seeds."""
    if len(values) < 2:
        return f"{mean(values):.1f}"
    middle, half = tables.interval(values)
    return f"{middle:.1f} ± {half:.1f}"


def table(rows: Sequence[Row], config: Config, *, brief: bool = False) -> tables.Table:
    """Thieves' accuracies, the worst case in a column of its own, and what each defense cost.

    Args:
        rows: of `run`.
        config: of the race.
        brief: means alone, for a terminal.
    """
    text = (lambda values: f"{mean(values):.1f}") if brief else interval
    headings = (
        "defense",
        *(recovering.NAMES[labels] for labels in config.attackers),
        "worst case",
        "defender",
        "mean L1",
    )
    texts = []
    for row in rows:
        thieves = [text(row.thieves[labels]) if labels in row.thieves else "—" for labels in config.attackers]
        worst = text(row.thieves[row.worst]) + ("" if brief else f" ({recovering.NAMES[row.worst]})")
        texts.append([row.name, *thieves, worst, text(row.defender), f"{row.spent:.2f}"])
    doubts = [f"{row.name}: {doubt}." for row in rows for doubt in row.doubts()]
    checks = ["Not to be trusted without a look:", *doubts] if doubts else ["No self-check speaks against a row."]
    spread = "" if brief or len(config.seeds) < 2 else ", mean ± half of Student's 95 % confidence interval"
    note = " ".join([f"The thief's and the defender's test accuracy in %{spread}.", *checks])
    return tables.Table(title(config), headings, texts, note, hidden=("mean L1",))


def picture(rows: Sequence[Row], config: Config) -> Any:
    """The means as a heat map."""
    from pp_jax import plots

    values: list[list[float | None]] = []
    for row in rows:
        means = {labels: mean(accuracies) for labels, accuracies in row.thieves.items()}
        values.append([*(means.get(labels) for labels in config.attackers), means[row.worst]])
    return plots.heatmap(
        values,
        rows=[row.name.replace(" (", "\n(") for row in rows],
        columns=[*(recovering.NAMES[labels] for labels in config.attackers), "worst case"],
        title=title(config),
        unit="thief's test accuracy (%)",
        limits=(0, 100),
        apart=1,
    )


def title(config: Config) -> str:
    """Victim, pool and queries in words, and how these are chosen where not at random."""
    attack = config.attack
    queries = f"{attack.budget:,} queries".replace(",", " ")
    asked = "" if attack.name == "knockoff" else f", {attack.name}"
    return f"{config.victim.dataset} ← {attack.pool}, {attack.model}, {queries}{asked}"


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    from pp_jax import plots

    try:
        rows = run(config)
        folder, shown, figure = config.runs / config.folder, table(rows, config), picture(rows, config)
        paths = [
            shown.write(folder / "armsrace.md"),
            plots.save(figure, folder / "armsrace.png"),
            tables.page(folder / "armsrace.html", shown, plots.png(figure)),
        ]
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from the finished cells")
    table(rows, config, brief=True).print()
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
