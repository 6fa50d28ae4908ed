"""What an attacker gets who is told nothing, and infers the defense from its responses.

    python -m experiments.inference            # MNIST ← notMNIST, 2 000 queries: about 15 minutes on 2 CPU cores

Trains a victim if there is none yet (90 seconds more), and queries through each defense: those on the attacker's list,
and others. Writes `confusion.md`, what each is taken for, into `runs/inference`; then steals the victim under five
defenses with attackers that are told nothing, that infer, and that are told, and writes `worst_case.md` beside it.
Expected: every defense of the list but the kinds that are undone alike is told apart (docs/results/inference.md).
A killed run goes on where it stopped.
"""

import dataclasses
from typing import Any

import tyro

from experiments import common
from pp_jax._command import command

LISTED = (
    "none",
    "Top1",
    "TopK(k=2)",
    "TopK(k=3)",
    "Rounding(decimals=1)",
    "Rounding(decimals=2)",
    "RandomNoise(radius=20.0)",
    "RandomNoise(radius=40.0)",
    "ReverseSigmoid(beta=0.5, gamma=0.2)",
    "ReverseSigmoid(beta=1.0, gamma=0.2)",
    "MAD(epsilon=0.5)",
    "MAD(epsilon=0.99)",
    "MAD(epsilon=0.99, keep_argmax=True)",
    "ModelGuardW(epsilon=1.0)",
    "KeyedSwap",
)
OTHERS = ("TopK(k=5)", "HighConfidence(cutoff=0.05)", "DCP(beta=0.7)", "ModelGuardS(epsilon=1.0)")
STOLEN = ("none", "ReverseSigmoid(beta=1.0, gamma=0.2)", "MAD(epsilon=0.99)", "ModelGuardW(epsilon=1.0)", "KeyedSwap")
TOLD = ("plain", "defense inference", "hard label", "inversion", "neighbours")


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Defenses × attackers, and what is inferred of each defense."""

    attack: common.AttackOptions = dataclasses.field(
        default_factory=lambda: common.AttackOptions("notmnist", budget=2000, epochs=8)
    )
    listed: tuple[str, ...] = LISTED
    """Defenses that the attacker considers."""
    others: tuple[str, ...] = OTHERS
    """Defenses that it does not."""
    stolen: tuple[str, ...] = STOLEN
    """Defenses that attackers steal from."""
    attackers: tuple[str, ...] = TOLD
    """Who steals."""
    sets: int = 64
    """Imagined sets of responses for each candidate."""
    judged: int = 10_000
    """Test images that everyone is judged on, the first of them."""
    folder: str = "inference"
    """Where below `runs` the records and the tables go."""


def confusion(config: Config) -> Any:
    """What every defense is taken for, by seeds."""
    import jax

    from pp_jax.evaluation import Setup, runs
    from pp_jax.evaluation.attackers import PLAIN
    from pp_jax.recovery import infer_defense
    from pp_jax.results.tables import Table

    victim, rows, given = config.checked(common.parsed([*config.listed, *config.others]), (PLAIN,), config.folder)
    shared = {name: given[name] for name in ("pool", "test", "network", "recipe", "budget", "outliers")}
    setup = Setup(victim, **shared, kept=given["runs_folder"] / "networks")
    others = {row.text() for row in common.parsed(config.others)}
    cells = []
    for row in rows:
        for seed in config.seeds:
            at = runs.deploy(setup, row, seed)
            stolen = runs.query(setup, at, PLAIN, lambda _: None)
            key = jax.random.fold_in(at.attack_key, 5)
            found = infer_defense(key, stolen.transfer, setup.network, sets=config.sets)
            ranked = sorted(zip(found.probabilities.tolist(), found.names, strict=True), reverse=True)
            second = f"{ranked[1][1]} {ranked[1][0]:.2f}"
            known = "no" if row.text() in others else "yes"
            strength = f"{found.strength:.3f}" if found.candidate.high > found.candidate.low else "—"
            recovery = type(found.candidate.recovery).__name__
            cells.append(
                [row.text(), known, str(seed), found.candidate.name, f"{ranked[0][0]:.2f}", strength, second, recovery]
            )
            print(" | ".join(cells[-1]), flush=True)
    headings = ["defense", "on the list", "seed", "taken for", "probability", "strength", "next", "recovery"]
    size = f"{config.attack.budget:,} queries".replace(",", " ")
    return Table(f"What each defense is taken for, {victim.name} ← {setup.pool.name}, {size}", headings, cells, "")


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    folder = config.runs / config.folder
    if config.listed or config.others:
        common.show(lambda: confusion(config), folder / "confusion.md")
    with common.errors():
        attackers, test = common.attacker_set(config.attackers), config.test()
        few = dataclasses.replace(test, images=test.images[: config.judged], labels=test.labels[: config.judged])
        report = config.evaluate(common.parsed(config.stolen), attackers, config.folder, test=few)
        paths = report.write(folder)
    report.table().print()
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
