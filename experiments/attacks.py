"""Query strategies × budgets, without a defense: what choosing queries gains over drawing them at random.

    python -m experiments.attacks --preset mnist_notmnist --budgets 500 2000 --considered 2000    # hours on 2 cores
    python -m experiments.attacks --preset mnist_notmnist --budgets 500 --attackers plain 'ActiveThief, entropy'

Writes a record per run and `attacks.md` into `runs/attacks`: the test accuracy of the stolen model and its agreement
with the victim, and for every strategy its gain over the plain attacker, whose queries are random: where the papers of
the strategies report one, the table says whether there is one here. `--adaptive` adds Knockoff's adaptive strategy,
which knows the classes of the pool. Those of the Jacobian family (JBDA-TR) start from the last 1000 test images of the
victim's own set and are judged on the others, as in `experiments.undefended`. `--considered` bounds what a round of the
others looks at: DeepFool on all of a pool of 20 000 images takes minutes, ten times. Expected on MNIST ← notMNIST:
docs/results/attacks.md.
"""

import dataclasses
from typing import Any

from experiments import common, presets
from experiments.undefended import seeds_apart
from pp_jax._command import command


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Attackers × budgets × seeds, without a defense."""

    preset: presets.Name | None = None
    """Victim and pool to start from: see `python -m experiments.presets`."""
    attackers: tuple[str, ...] = ("active",)
    """`active`, single members by name, or yours, as in mine.py:MINE; `plain` is always among them."""
    adaptive: bool = True
    """Also Knockoff's adaptive strategy, with all three rewards."""
    budgets: tuple[int, ...] = (500, 2000)
    """Queries; `--attack.budget` plays no part here."""
    considered: int | None = None
    """Images of the pool that a round looks at, drawn anew; all by default."""
    folder: str = "attacks"
    """Where below `runs` the records and the table go."""


def members(config: Config) -> list[Any]:
    """The attackers, the plain one first."""
    from pp_jax import attacks
    from pp_jax.evaluation import Attacker

    found = list(common.attacker_set(("plain", *config.attackers)))
    if config.adaptive:
        rewards = attacks.Certainty(), attacks.Diversity(), attacks.Loss()
        classes = common.known_classes(config.pool())
        strategy = attacks.AdaptiveKnockoff(classes, rewards=rewards, thief=config.network(), batch_size=50)
        found.insert(1, Attacker("Knockoff, adaptive", strategy=strategy))
    return [_bounded(attacker, config.considered) for attacker in found]


def _bounded(attacker: Any, considered: int | None) -> Any:
    """The attacker with a bound on what a round looks at, where its strategy has one."""
    strategy = attacker.strategy
    if considered is None or not hasattr(strategy, "considered"):
        return attacker
    return dataclasses.replace(attacker, strategy=dataclasses.replace(strategy, considered=considered))


def run(config: Config) -> Any:
    """Compute what is missing; the table."""
    from pp_jax import attacks
    from pp_jax.results.tables import Table, provenance, spread

    if not config.budgets:
        raise ValueError("budgets is empty: must hold at least one")
    chosen = members(config)
    making = [one for one in chosen if isinstance(one.strategy, attacks.JacobianAugmentation)]
    querying = [one for one in chosen if one not in making]
    seeds, rest = seeds_apart(config.test())
    given: list[tuple[list[Any], dict[str, Any]]] = [(querying, {}), (making, {"pool": seeds, "test": rest})]
    accuracy: dict[tuple[str, int], Any] = {}
    agreement: dict[tuple[str, int], Any] = {}
    records: list[Any] = []
    for budget in config.budgets:
        at = dataclasses.replace(config, attack=dataclasses.replace(config.attack, budget=budget))
        for several, sets in given:
            if several:
                (row,) = at.evaluate([], several, config.folder, **sets).rows
                records += row.records
                for record in row.records:
                    place = record.config["attack"]["name"], budget
                    accuracy.setdefault(place, []).append(100 * record.result["attacker_accuracy"])
                    agreement.setdefault(place, []).append(100 * record.result["fidelity"])
    texts = [
        [one.name, *(_cell(accuracy, agreement, one.name, budget, spread) for budget in config.budgets)]
        for one in chosen
    ]
    note = "Test accuracy (agreement with the victim) in %; mean ± half the range over seeds; in brackets the gain in "
    note += f"accuracy over plain. {_statement(accuracy, config.budgets)} {provenance(records)}"
    headings = ("attacker", *(f"{budget} queries" for budget in config.budgets))
    return Table(f"Query strategies, {config.victim.dataset} ← {config.attack.pool}, no defense", headings, texts, note)


def _cell(accuracy: Any, agreement: Any, name: str, budget: int, spread: Any) -> str:
    """Accuracy, agreement and gain of an attacker at a budget."""
    found = accuracy[name, budget]
    gain = "" if name == "plain" else f" [{_mean(found) - _mean(accuracy['plain', budget]):+.1f}]"
    return f"{spread(found)} ({spread(agreement[name, budget])}){gain}"


def _statement(accuracy: Any, budgets: Any) -> str:
    """Which strategies that choose their queries do no better than random ones, by budget."""
    names = sorted({name for name, _ in accuracy} - {"plain"})
    said = []
    for budget in budgets:
        plain = _mean(accuracy["plain", budget])
        below = [name for name in names if _mean(accuracy[name, budget]) < plain]
        found = f"below it are {', '.join(below)}" if below else "none is below it"
        said.append(f"At {budget} queries {len(names) - len(below)} of {len(names)} reach plain: {found}.")
    return " ".join(said)


def _mean(values: Any) -> float:
    """The mean."""
    return sum(values) / len(values)


@command()
def main() -> None:
    """Command line."""
    config = presets.cli(Config, __doc__)
    common.show(lambda: run(config), config.runs / config.folder / "attacks.md")


if __name__ == "__main__":
    main()
