"""Griefing: can one account make another account's answers worse?

    python -m experiments.griefing                                        # MNIST ← font_letters, about 3 minutes
    python -m experiments.griefing --defense 'ModelGuardS(epsilon=1.0)' mine.py:MINE

For every defense with a memory: the answers to an honest account (the test images) when it is alone, after an attacker
has spent its budget with an account of its own, and after the attacker has spent it in the *same* memory, as where a
defense keeps one memory for all its users. Writes a record per defense and `griefing.md` into `runs/griefing`. Times
are for 2 CPU cores.
"""

import dataclasses
import time
from typing import Any

import tyro

from experiments import common, policies
from pp_jax._command import command


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Defenses with a memory, for one victim, one pool and the first of the seeds."""

    defense: tuple[str, ...] = ("ModelGuardS(epsilon=1.0)",)
    """Beside the policies: a class of pp_jax.defenses with its parameters, or yours, as in mine.py:Mine."""
    detectors: tuple[str, ...] = ("dadd", "p_values", "label_mmd")
    """Functions in `pp_jax.detection.makers`, each as the policy detector → resampled at 1 %."""
    honest: int = 1000
    """Test images that the honest account asks about."""
    folder: str = "griefing"
    """Where below `runs` the records and the table go."""


def measure(config: Config, setup: Any, run: Any) -> dict[str, Any]:
    """The honest account's accuracy in the three cases, and how far the attacker moved its answers."""
    import jax
    import numpy as np

    from pp_jax import metrics
    from pp_jax._checks import remembers
    from pp_jax.evaluation import setups

    at = setups.deploy(setup, run.entry, run.seed)
    if not remembers(at.box.defense):
        raise ValueError(f"{run.entry.label} has no memory: must be a defense with one")
    test, pool = setup.test, setup.pool.images
    rows = np.asarray(jax.random.permutation(at.attack_key, len(pool)))[: setup.budget]
    images, labels = test.images[: config.honest], test.labels[: config.honest]
    alone = np.asarray(at.box.session()(images)[0])
    apart, attacker, shared = at.box.session(), at.box.session(), at.box.session()
    attacker(pool[rows])
    shared(pool[rows])
    found = {"alone": alone, "own_memory": np.asarray(apart(images)[0]), "one_memory": np.asarray(shared(images)[0])}
    accuracies = {name: metrics.accuracy(answers, labels) for name, answers in found.items()}
    moved = {f"{name}_l1": float(np.abs(found[name] - alone).sum(axis=1).mean()) for name in list(found)[1:]}
    return {**accuracies, **moved}


def run(config: Config) -> Any:
    """Compute what is missing; the table."""
    from pp_jax import records
    from pp_jax.defenses import Resampled
    from pp_jax.evaluation import Run, Setup
    from pp_jax.evaluation.attackers import PLAIN
    from pp_jax.results.tables import Table, provenance

    watched = policies.entries(config.detectors, (Resampled,), queries=config.honest)
    victim, rows, given = config.checked([*watched, *common.parsed(config.defense)], (PLAIN,), config.folder)
    shared = {name: given[name] for name in ("pool", "test", "network", "recipe", "budget", "outliers")}
    folder = given["runs_folder"]
    setup = Setup(victim, **shared, note={"measured": "griefing", "honest": config.honest}, kept=folder / "networks")
    lines, behind = [], []
    for row in rows:
        if row.undefended:
            continue
        each = Run(row, PLAIN, config.seeds[0])
        settings = each.config(setup)

        def work(each: Any = each, settings: Any = settings) -> None:
            started = time.perf_counter()
            result = measure(config, setup, each)
            timings = {"total_s": time.perf_counter() - started}
            records.write(folder, kind="griefing", config=settings, result=result, timings=timings)

        record = records.once(folder, settings, work, wait=True)
        assert record is not None  # since it waits
        result, percent = record.result, "{:.1f}".format
        shares = [percent(100 * result[name]) for name in ("alone", "own_memory", "one_memory")]
        lines.append([row.text(), *shares, f"{result['one_memory_l1']:.2f}"])
        behind.append(record)
    headings = ("defense", "alone %", "attacker in its own memory %", "attacker in the same memory %", "mean L1 moved")
    note = (
        f"Accuracy of an honest account over {config.honest} test images, before and after {config.attack.budget} "
        "queries of an attacker; the last column compares its answers alone and in the same memory. "
    )
    title = f"Griefing, {config.victim.dataset} ← {config.attack.pool}"
    return Table(title, headings, lines, note + provenance(behind))


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    common.show(lambda: run(config), config.runs / config.folder / "griefing.md")


if __name__ == "__main__":
    main()
