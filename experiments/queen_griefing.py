"""Griefing QUEEN: what one client's queries cost everybody else, as its coverage is one for all.

    python -m experiments.queen_griefing --victim.train-size 10000      # about 3 minutes on 2 CPU cores

A client queries images of the victim's own distribution, which is all it needs to cover the cores of the classes; then
other users ask, and QUEEN answers from the same memory. Shows, after how many of the client's queries, how many classes
are beyond QUEEN's threshold, how far the others' responses are moved and what accuracy is left to them. Writes
`queen_griefing.md` into `runs/queen_griefing`. Expected: docs/results/new_defenses.md.
"""

import dataclasses
from typing import Any

import numpy as np
import tyro

from experiments import common
from pp_jax._command import command


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Queries of the client × radii."""

    radius: tuple[float, ...] = (0.02, 0.2)
    """Of QUEEN; 0.02 is published."""
    members: int = 2
    """Shadow models; 5 are published."""
    queries: tuple[int, ...] = (0, 500, 1000, 2000, 4000)
    """Of the client, before the others ask."""
    others: int = 1000
    """Queries of the other users: images of the test set."""
    folder: str = "queen_griefing"
    """Where below `runs` the networks and the table go."""


def run(config: Config) -> Any:
    """The table."""
    from pp_jax.results.tables import Table

    victim, test = config.trained(), config.test()
    most = max(config.queries)
    if most > len(victim.images):
        raise ValueError(f"queries are {config.queries}: must be at most {len(victim.images)}, the client's images")
    lines = []
    for radius in config.radius:
        for queries, classes, moved, accuracy in griefed(config, victim, test, radius):
            lines.append([f"{radius:g}", str(queries), str(classes), f"{moved:.3f}", f"{100 * accuracy:.1f}"])
    headings = ("radius", "client's queries", "classes beyond the threshold", "others' mean L1", "others' accuracy %")
    note = f"{config.members} shadow models, {config.others} queries of the others; one memory for all."
    return Table(f"Griefing QUEEN, {victim.name}", headings, lines, note)


def griefed(config: Config, victim: Any, test: Any, radius: float) -> list[tuple[int, int, float, float]]:
    """For each number of the client's queries: classes beyond the threshold, the others' mean L1, their accuracy."""
    from pp_jax.defenses import QUEEN
    from pp_jax.evaluation import Entry, Setup, setups
    from pp_jax.serving.perturbation import perturb_sequence
    from pp_jax.training.predicting import predict

    recipe, network = config.attack.recipe(), config.network()
    setup = Setup(victim, test, test, network, recipe, 1, kept=config.runs / config.folder / "networks")
    box = setups.deploy(setup, Entry(QUEEN, radius=radius, members=config.members), 0).box
    others, labels = test.images[: config.others], np.asarray(test.labels)[: config.others]
    defense: Any = box.defense
    clean: Any = predict(victim.network, victim.params, others)
    state, spent, found = defense.init(), 0, []
    for queries in sorted(config.queries):
        mine = victim.images[spent:queries]
        if len(mine):
            probs: Any = predict(victim.network, victim.params, mine)
            _, state = perturb_sequence(defense, state, probs, mine, key=box.key)
        spent = queries
        answers, _ = perturb_sequence(defense, state, clean, others, key=box.key)
        beyond = int((np.asarray(state.scores) > float(defense.threshold)).sum())
        right = float((np.asarray(answers).argmax(axis=1) == labels).mean())
        found.append((queries, beyond, float(np.abs(np.asarray(answers) - clean).sum(axis=1).mean()), right))
    return found


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    common.show(lambda: run(config), config.runs / config.folder / "queen_griefing.md")


if __name__ == "__main__":
    main()
