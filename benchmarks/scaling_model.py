"""What was fitted, put together: a query is two forward passes and a solver, an attack is responses and a training."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from cost_model import PowerLaw, Rates, fit_power_law, fit_rates
from scaling_measure import Row, least
from scaling_stages import Case, forward_work, training_work, work

DAY, YEAR = 86_400, 365.25 * 86_400
QUERIES = 50_000
EPOCHS = 100


def laws_of(rows: Sequence[Row], clock: str) -> dict[str, PowerLaw]:
    """A power law of every sweep that has a variable, by name."""
    laws = {}
    for name in dict.fromkeys(row["sweep"] for row in rows if row["variable"]):
        mine = [row for row in rows if row["sweep"] == name]
        laws[name] = fit_power_law([row[row["variable"]] for row in mine], [least(row, clock) for row in mine])
    return laws


def rates_of(rows: Sequence[Row], stage: str, clock: str) -> Rates:
    """Seconds a call, an operation and a parameter, from the convolutional networks of several sizes."""
    mine = [row for row in rows if row["sweep"] == f"{stage}, networks and batches"]
    works = [work(**{kind: row[kind] for kind in ("flops", "parameters", "side")}) for row in mine]
    return fit_rates(works, [least(row, clock) for row in mine], [row["network"] for row in mine])


@dataclasses.dataclass(frozen=True)
class Model:
    """Everything that was fitted on one clock.

    Attributes:
        laws: a power law for every sweep.
        forward: rates of a forward pass.
        training: rates of a training step.
        solver_batch: images of a call of the solver's law.
    """

    laws: Mapping[str, PowerLaw]
    forward: Rates
    training: Rates
    solver_batch: int

    def query(self, case: Case) -> float:
        """Seconds of a defended batch: two forward passes, and the solver for every image."""
        return 2 * self.forward(forward_work(case)) + case.batch * self.solver(case.classes)

    def solver(self, classes: int) -> float:
        """Seconds of the solver for one posterior."""
        return self.laws["solver extreme, classes"](classes) / self.solver_batch

    def step(self, case: Case) -> float:
        """Seconds of a training step."""
        return self.training(training_work(case))


def models_of(rows: Sequence[Row]) -> dict[str, Model]:
    """What was fitted, by clock."""
    batch = next(row["batch"] for row in rows if row["sweep"] == "solver extreme, classes")
    return {
        clock: Model(
            laws_of(rows, clock), rates_of(rows, "forward", clock), rates_of(rows, "training step", clock), batch
        )
        for clock in ("wall", "cpu")
    }


def serving(case: Case, law: str | None, models: Mapping[str, Model]) -> dict[str, Any]:
    """What a query costs, a million of them a day, and a billion.

    Args:
        case: victim and surrogate, and the batch that they serve.
        law: the power law in the batch that tells the time of a call; the rates and the solver's law by default.
        models: what was fitted, by clock.

    Returns:
        Seconds a query (`wall`, `cpu`), the share of a day that this machine is busy with a million
        (`utilisation`), the cores that this takes, and for a billion: seconds of this machine, years of a core,
        operations.
    """
    each = {
        clock: (model.laws[law](case.batch) if law else model.query(case)) / case.batch
        for clock, model in models.items()
    }
    return {
        "name": f"{case.architecture.name}, K = {case.classes}, batch {case.batch}",
        **each,
        "utilisation": 1e6 * each["wall"] / DAY,
        "cores": 1e6 * each["cpu"] / DAY,
        "billion_wall": 1e9 * each["wall"],
        "billion_core_years": 1e9 * each["cpu"] / YEAR,
        "billion_flops": 1e9 * 2 * _operations(case) / case.batch,
    }


def attack(name: str, case: Case, models: Mapping[str, Model]) -> dict[str, Any]:
    """Seconds of this machine for the responses to 50 000 queries, and for the attacker's training on them."""
    model, calls = models["wall"], QUERIES / case.batch
    epoch = calls * model.step(case)
    return {"name": name, "responses": calls * model.query(case), "epoch": epoch, "training": EPOCHS * epoch}


def _operations(case: Case) -> float:
    """Floating-point operations of a forward pass."""
    return sum(amount for kind, amount in forward_work(case).items() if kind.startswith("flops"))
