"""How attackers get around a defense: other labels, optimisers, architectures, a warm start, and white-box evaluation.

    python -m experiments.subversion --preset mnist_notmnist          # about 20 minutes on 2 CPU cores

Each row is an attacker, each column a defense. The defender's surrogate is an untrained network of the usual
architecture in every row: it did not foresee another one. The last three rows train online, one pass in batches, while
the defense sees its own untrained surrogate, a network trained alongside, or the attacker's own weights. Expected on
MNIST ← notMNIST, seed 0: MAD 0.99 leaves soft labels 55.2 %, hard labels 34.2, and 14.4 in a white box; hard labels
undo MAD-argmax, 90.8 (docs/results/subversion.md). Writes a record per run and `subversion.md` into `runs/subversion`.
"""

import dataclasses
from typing import Any

from experiments import common, presets
from pp_jax._command import command


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Attackers × defenses × seeds."""

    preset: presets.Name | None = None
    """Where the other options start: see `python -m experiments.presets`."""
    other: str = "fashion_mnist"
    """The labelled data set of the warm start."""
    only: tuple[str, ...] = ()
    """Only these rows; all of them by default."""
    folder: str = "subversion"
    """Where below `runs` the records and the table go."""


def defenses() -> list[Any]:
    """The columns."""
    from pp_jax.defenses import MAD, ReverseSigmoid
    from pp_jax.evaluation import Entry

    return [Entry(MAD, epsilon=0.99), Entry(MAD, epsilon=0.99, keep_argmax=True), Entry(ReverseSigmoid, beta=1.0)]


def attackers_of(config: Config) -> dict[str, tuple[dict[str, Any], Any]]:
    """By name: changes of the attack's options, and the attacker."""
    from pp_jax import attacks
    from pp_jax.evaluation import Attacker, Learner
    from pp_jax.evaluation.attackers import HARD_LABEL, PLAIN

    network, slow = config.network(), {"learning_rate": 0.001}
    rewards = attacks.Certainty(), attacks.Diversity(), attacks.Loss()
    adaptive = attacks.AdaptiveKnockoff(
        common.known_classes(config.pool()), rewards=rewards, thief=network, batch_size=50
    )
    seeking = attacks.Seeking(network, config.attack.recipe(), config.attack.budget)
    return {
        "soft labels, SGD": ({}, PLAIN),
        "hard labels": ({}, HARD_LABEL),
        "best epoch on held-out responses": ({}, Attacker("held out", learner=Learner(held_out=0.1))),
        "SGD without momentum": ({"momentum": 0.0}, PLAIN),
        "Adam": ({"optimizer": "adam", **slow}, PLAIN),
        "RMSprop": ({"optimizer": "rmsprop", **slow}, PLAIN),
        "Adagrad": ({"optimizer": "adagrad", "learning_rate": 0.01}, PLAIN),
        "MLP": ({"model": "mlp"}, PLAIN),
        f"warm start from {config.other}": ({"start": config.other}, PLAIN),
        "adaptive queries": ({}, Attacker("adaptive", strategy=adaptive)),
        "queries that it is most certain of": ({}, Attacker("seeking", strategy=seeking)),
        "online, surrogate untrained": ({}, Attacker("online", online="fixed")),
        "online, grey box (proxy)": ({}, Attacker("grey box", online="proxy")),
        "online, white box": ({}, Attacker("white box", online="attacker")),
    }


def run(config: Config) -> Any:
    """Compute what is missing, one evaluation for all attackers of the same options; the table."""
    from pp_jax.results.tables import Table, provenance, spread

    known = attackers_of(config)
    if unknown := sorted(set(config.only) - set(known)):
        raise ValueError(f"only has {unknown[0]!r}: must be of {', '.join(known)}")
    chosen = {name: row for name, row in known.items() if name in (config.only or known)}
    groups: dict[str, list[str]] = {}
    for name, (changes, _) in chosen.items():
        groups.setdefault(repr(changes), []).append(name)
    texts: dict[str, list[str]] = {}
    headings: list[str] = []
    records = []
    for names in groups.values():
        changes, _ = chosen[names[0]]
        changed = dataclasses.replace(config, attack=dataclasses.replace(config.attack, **changes))
        foreseen = {"presumed": config.network()} if "model" in changes else {}
        report = changed.evaluate(defenses(), [chosen[name][1] for name in names], config.folder, **foreseen)
        headings = [row.name for row in report.rows]
        records += [record for row in report.rows for record in row.records]
        for name in names:
            found = [row.attacks.get(chosen[name][1].name) for row in report.rows]
            texts[name] = ["—" if values is None else spread(values) for values in found]
    note = "Test accuracy of the stolen model in %; mean ± half the range over seeds. " + provenance(records)
    title = f"Subversion, {config.victim.dataset} ← {config.attack.pool}"
    return Table(title, ("attacker", *headings), [[name, *texts[name]] for name in chosen], note)


@command()
def main() -> None:
    """Command line."""
    config = presets.cli(Config, __doc__)
    common.show(lambda: run(config), config.runs / config.folder / "subversion.md")


if __name__ == "__main__":
    main()
