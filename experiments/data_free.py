"""Data-free stealing: generators make the queries, and clones learn from the responses, with and without defenses.

    python -m experiments.data_free --victim.train-size 20000 --victim.epochs 3      # MNIST, undefended
    python -m experiments.data_free --methods dfme --defense 'MAD(epsilon=0.99)' --budget 200000
    python -m experiments.data_free --victim.dataset cifar10 --victim.model resnet34 --attack.model resnet18 \\
        --budget 20000000 --published                                                # hours on an accelerator

Each method spends the budget on the victim behind each defense, undefended first, through the black box's API: it sees
images and responses, nothing else. By default with the settings for small budgets (`data_free.for_small_budgets`),
as published with `--published`. The clone is judged on the victim's test images five times along the way; what counts
is the last figure, as no attacker has test images to stop by. Methods that need probabilities are left out where
`--hard-labels` cuts the responses down to class indices. Writes a record per run and `data_free.md` into
`runs/data_free`; a killed script begins the unfinished run again. Figures: docs/results/data_free.md.
"""

import dataclasses
import time
from typing import Any, Literal

import tyro

from experiments import common
from pp_jax._command import command

Method = Literal["maze", "dfme", "dfms_hl", "disguide", "ideal"]


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Methods × defenses × seeds, one budget; of the attack's options only `--attack.model` counts."""

    methods: tuple[Method, ...] = ("maze", "dfme", "dfms_hl", "disguide", "ideal")
    """Which attacks."""
    budget: int = 20_000
    """Queries of each; one image is one query."""
    defense: tuple[str, ...] = ()
    """A class of pp_jax.defenses with its parameters, or yours, as in mine.py:Mine; undefended comes first."""
    published: bool = False
    """The published settings, made for millions of queries."""
    hard_labels: bool = False
    """The API answers class indices."""
    folder: str = "data_free"
    """Where below `runs` the records and the table go."""

    def method(self, name: Method) -> Any:
        """The attack of a name."""
        from pp_jax import attacks
        from pp_jax.attacks import data_free

        options = {"hard_labels": True} if self.hard_labels and name == "disguide" else {}
        method = getattr(attacks, name)(self.network(), self.budget, **options)
        return method if self.published else data_free.for_small_budgets(method)

    def settings(self, name: Method, defense: str, seed: int) -> dict[str, Any]:
        """What determines a run."""
        return {
            "victim": self.victim.settings(), "model": self.attack.model, "method": name, "budget": self.budget,
            "published": self.published, "hard_labels": self.hard_labels, "defense": defense, "seed": seed,
        }  # fmt: skip


def run(config: Config) -> Any:
    """Compute what is missing; the table."""
    from pp_jax import records
    from pp_jax.evaluation import Run, Setup
    from pp_jax.evaluation.attackers import PLAIN
    from pp_jax.results.tables import Table, provenance, spread

    methods = {name: config.method(name) for name in config.methods}
    if config.hard_labels:
        methods = {name: method for name, method in methods.items() if method.labels}
    # Nothing is drawn from a pool: the checks are given the test images and a budget that these are good for.
    alone = dataclasses.replace(config, attack=dataclasses.replace(config.attack, budget=1))
    victim, rows, given = alone.checked(common.parsed(config.defense), (PLAIN,), config.folder, pool=config.test())
    folder = given["runs_folder"]
    shared = {name: given[name] for name in ("pool", "test", "network", "recipe", "budget", "outliers")}
    setup = Setup(victim, **shared, kept=folder / "networks")
    lines, behind = [], []
    for name, method in methods.items():
        for row in rows:
            found: list[Any] = []
            for seed in config.seeds:
                settings, each = config.settings(name, row.text(), seed), Run(row, PLAIN, seed)

                def work(method: Any = method, each: Any = each, settings: Any = settings) -> None:
                    started, busy = time.perf_counter(), time.process_time()
                    result = attack(setup, method, each, hard_labels=config.hard_labels)
                    timings = {"total_s": time.perf_counter() - started, "cpu_s": time.process_time() - busy}
                    records.write(folder, kind="data_free", config=settings, result=result, timings=timings)

                found.append(records.once(folder, settings, work, wait=True))
            behind += found
            curve = ", ".join(f"{100 * share:.1f}" for share in found[0].result["curve"])
            last = spread([100 * record.result["accuracy"] for record in found])
            lines.append([name, row.text(), last, curve, f"{found[0].timings['cpu_s'] / 60:.1f}"])
    queries = f"{config.budget:,} queries".replace(",", " ")
    title = f"Data-free stealing of {config.victim.dataset}, {config.attack.model}, {queries}"
    note = "Accuracy in %, mean ± half the range over seeds; along the way for the first seed. " + provenance(behind)
    return Table(title, ("method", "defense", "clone %", "along the way %", "CPU minutes"), lines, note)


def attack(setup: Any, method: Any, run: Any, *, hard_labels: bool = False) -> dict[str, Any]:
    """Steal once through the API of a defended victim; the clone's test accuracy, five times along the way."""
    import numpy as np

    from pp_jax import attacks, metrics
    from pp_jax.evaluation import setups

    at = setups.deploy(setup, run.entry, run.seed)
    answer = at.box.api()
    api = (lambda images: np.asarray(answer(images)).argmax(axis=1)) if hard_labels else answer
    curve: list[float] = []

    def judge(theft: Any) -> None:
        if theft.queries * 5 >= (len(curve) + 1) * method.budget:
            accuracy = metrics.accuracy(theft.predict(setup.test.images), setup.test.labels)
            curve.extend([accuracy] * (theft.queries * 5 // method.budget - len(curve)))

    theft = attacks.steal(at.attack_key, method, api, image_shape=setup.image_shape, on_round=judge)
    return {"accuracy": curve[-1], "curve": curve, "queries": theft.queries, "spent": theft.spent}


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    common.show(lambda: run(config), config.runs / config.folder / "data_free.md")


if __name__ == "__main__":
    main()
