"""What an evaluation came to: for each defense its worst case, who it was, and what the defense cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pp_jax.evaluation.attackers import Attacker
from pp_jax.evaluation.equalizing import Equalized
from pp_jax.results import records
from pp_jax.results.tables import Table, interval, page, provenance

DOES_NOT_APPLY = "does not apply"
L1_TOLERANCE = 0.05
OUTPUTS = ("worst_case.md", "worst_case.png", "report.html")
"""What a report is written to."""


class Row(NamedTuple):
    """One defense.

    Attributes:
        name: the defense in words.
        entry: with its strength and how that was found.
        attacks: test accuracy of the stolen model in % over seeds, by attacker; attackers that do not apply are
            missing.
        defender: the defender's test accuracies in %.
        l1: mean L1 distance of the responses to the queries, over seeds.
        fidelity: agreement of the worst case's stolen model with the victim in %.
        chance: accuracy of guessing in %.
        records: behind the row.
    """

    name: str
    entry: Equalized
    attacks: Mapping[str, Sequence[float]]
    defender: Sequence[float]
    l1: Sequence[float]
    fidelity: Sequence[float]
    chance: float
    records: Sequence[records.Record]

    def worst(self, *, privileged: Iterable[str] = ()) -> str:
        """The attacker that gets most, yardsticks left out."""
        real = [name for name in self.attacks if name not in set(privileged)]
        return max(real, key=lambda name: mean(self.attacks[name]))


@dataclasses.dataclass(frozen=True)
class Report:
    """The rows of an evaluation, undefended first, and how to show them.

    Attributes:
        title: victim, pool, network and queries in words.
        attackers: that were tried.
        rows: one a defense.
        attacker_set: name and version of the set.
        start: what the attackers had before the first query, accuracy in %; None where they start from nothing.
    """

    title: str
    attackers: tuple[Attacker, ...]
    rows: tuple[Row, ...]
    attacker_set: str
    start: float | None = None

    @property
    def privileged(self) -> tuple[str, ...]:
        """Names of the yardsticks."""
        return tuple(attacker.name for attacker in self.attackers if attacker.privileged)

    def worst(self, row: Row) -> tuple[str, Sequence[float]]:
        """Name and accuracies of a row's worst case."""
        name = row.worst(privileged=self.privileged)
        return name, row.attacks[name]

    def doubts(self) -> list[str]:
        """Why a row should not be trusted: the self-checks of docs/checks.md."""
        return [f"{row.name}: {doubt}" for row in self.rows for doubt in self._doubts(row)]

    def _doubts(self, row: Row) -> list[str]:
        found = []
        target = row.entry.target
        if not row.entry.met:
            found.append("calibration did not reach its target")
        elif target is not None and abs(mean(row.l1) - target) > L1_TOLERANCE:
            found.append(f"mean L1 on the queries is {mean(row.l1):.2f}, not {target:g}")
        if mean(row.defender) < 2 * row.chance:
            found.append("the defender answers no better than at random")
        for name, accuracies in row.attacks.items():
            if mean(accuracies) < row.chance / 2:
                found.append(f"{name} is below chance: what is wrong so reliably can be inverted")
        informed = set(row.attacks) - {attacker.name for attacker in self.attackers if attacker.naive}
        if not informed and not row.entry.entry.undefended:
            found.append("no informed attacker was tried")
        best = self.rows[0]
        if row is not best and mean(self.worst(row)[1]) > mean(self.worst(best)[1]) + 5:
            found.append("an attacker gets more than without the defense: its recovery adds knowledge of its own")
        return found

    def table(self, *, brief: bool = False) -> Table:
        """The worst case first, then every attacker; `brief` for a terminal: means alone."""
        text = (lambda values: f"{mean(values):.1f}") if brief else spread
        names = [attacker.name for attacker in self.attackers]
        headings = ["defense", "worst case %", "by", "plain %", "defender %", "mean L1"]
        others = [name for name in names if name != "plain"]
        rows = []
        for row in self.rows:
            worst, accuracies = self.worst(row)
            plain = text(row.attacks["plain"]) if "plain" in row.attacks else "—"
            cells = [text(row.attacks[name]) if name in row.attacks else DOES_NOT_APPLY for name in others]
            rows.append([row.name, text(accuracies), worst, plain, text(row.defender), f"{mean(row.l1):.2f}", *cells])
        seeds = max((len(row.defender) for row in self.rows), default=1)
        note = f"Test accuracy of the stolen model and of the defender in %; attackers: {self.attacker_set}."
        if seeds > 1 and not brief:
            note += f" {seeds} seeds, mean ± half of Student's 95 % confidence interval."
        if seeds == 1:
            note += " One seed: no interval."
        if self.start is not None:
            note += f" Before its first query an attacker has {self.start:.1f} %."
        note += "".join(self._accused(row) for row in self.rows)
        note += "".join(self._gained(row) for row in self.rows)
        doubts = self.doubts()
        note += " Look before you trust (docs/checks.md): " + "; ".join(doubts) + "." if doubts else ""
        return Table(self.title, [*headings, *others], rows, note, hidden=tuple(others))

    def gain(self, row: Row) -> tuple[float, float] | None:
        """What images of their own give attackers without a theft in %, and what the best theft adds; None without."""
        alone = [a.name for a in self.attackers if a.alone and a.name in row.attacks]
        thefts = [a.name for a in self.attackers if a.own and not a.alone and a.name in row.attacks]
        if not alone or not thefts:
            return None
        start = max(mean(row.attacks[name]) for name in alone)
        return start, max(mean(row.attacks[name]) for name in thefts) - start

    def _gained(self, row: Row) -> str:
        """The gain over own images, in words; nothing where nobody has some."""
        found = self.gain(row)
        if found is None:
            return ""
        return f" {row.name}: own images alone {found[0]:.1f} %, the best theft with them {found[1]:+.1f} points."

    @staticmethod
    def _accused(row: Row) -> str:
        """Which benign accounts a policy accuses, means over seeds; nothing for other defenses."""
        results = [record.result["accused"] for record in row.records if "accused" in record.result]
        if not results:
            return ""
        shares = {kind: 100 * mean([each[kind] for each in results]) for kind in results[0]}
        kinds = ", ".join(f"{kind} {share:.1f} %" for kind, share in shares.items())
        return f" {row.name} accuses of benign accounts: {kinds}."

    def figure(self) -> Any:
        """For each defense what the plain attacker gets, and what the worst case wins back."""
        from pp_jax.results import plots

        rows = []
        for row in self.rows:
            worst, accuracies = self.worst(row)
            plain = mean(row.attacks.get("plain", accuracies))
            rows.append(plots.Gap(row.name, plain, mean(accuracies), worst, mean(row.defender)))
        undefended = mean(self.worst(self.rows[0])[1])
        return plots.worst_case(rows, title=self.title, undefended=undefended, chance=self.rows[0].chance)

    def write(self, folder: Path) -> list[Path]:
        """Write `worst_case.md`, `.png` and a self-contained `report.html`; their paths.

        Raises:
            ValueError: one of these is there and was not written by us; nothing is written then.
        """
        from pp_jax import _files
        from pp_jax.results import plots

        folder = _files.expanded(folder)
        _files.check_replaceable(*(folder / name for name in OUTPUTS))
        table, figure = self.table(), self.figure()
        note = provenance(record for row in self.rows for record in row.records)
        table = dataclasses.replace(table, note=f"{table.note} {note}")
        return [
            table.write(folder / OUTPUTS[0]),
            plots.save(figure, folder / OUTPUTS[1]),
            page(folder / OUTPUTS[2], table, plots.png(figure), lead=self.headline()),
        ]

    def headline(self) -> str:
        """The result in two sentences, the worst case first; never a plain attacker alone."""
        if len(self.rows) < 2:
            return ""
        best = min(self.rows[1:], key=lambda row: mean(self.worst(row)[1]))
        name, accuracies = self.worst(best)
        none = mean(self.worst(self.rows[0])[1])
        lost = mean(self.rows[0].defender) - mean(best.defender)
        return (
            f"The lowest worst case is that of {best.name}: {mean(accuracies):.1f} % ({name}), against {none:.1f} % "
            f"without a defense, at {lost:.1f} points of the defender's accuracy. A stronger attacker, or one not "
            "tried here, may get more."
        )


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; NaN of none."""
    return sum(values) / len(values) if values else math.nan


def spread(values: Sequence[float]) -> str:
    """Mean ± the half-width of Student's 95 % confidence interval, for several seeds."""
    if len(values) < 2:
        return f"{mean(values):.1f}"
    middle, half = interval(values)
    return f"{middle:.1f} ± {half:.1f}"
