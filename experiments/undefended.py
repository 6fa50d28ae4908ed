"""The paper's undefended table: victims × attacks, published beside obtained.

    python -m experiments.undefended                                     # MNIST ← font_letters, about 12 minutes
    python -m experiments.undefended --presets mnist_notmnist fashion_mnist_mnist --seeds 0 1 2
    python -m experiments.undefended --presets mnist fashion_mnist cifar10 --reservoir 400 --rounds-epochs 20

The last is the paper's size, for an accelerator. Writes a record per run and `undefended.md` into `runs/undefended`.
Expected on MNIST ← notMNIST, seed 0: victim 99.3 %, Knockoff 95.9, adaptive 96.2, JBDA 96.0, JB-self 94.8, JB-top3
93.7 (docs/results/undefended.md). The Jacobian family starts from a few of the last 1000 test images of the victim's
own set and is judged on the others. A preset whose data are not prepared is reported and left as "not run". Times are
for 2 CPU cores; a killed run goes on where it stopped.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import tyro

from experiments import common
from experiments.presets import Name, presets
from pp_jax._command import command

Attack = Literal["knockoff", "adaptive", "jbda", "jb_self", "jb_topk"]
HEADINGS: dict[Attack, str] = {
    "knockoff": "Knockoff",
    "adaptive": "Knockoff, adaptive",
    "jbda": "JBDA",
    "jb_self": "JB-self",
    "jb_topk": "JB-top3",
}


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Victims × attacks × seeds, without a defense."""

    presets: tuple[Name, ...] = ()
    """Which victims and pools: see `python -m experiments.presets`; those of --victim and --attack by default."""
    attacks: tuple[Attack, ...] = get_args(Attack)
    """Which attacks."""
    seed_size: int = 100
    """Jacobian family: images to begin with."""
    reservoir: int = 1000
    """Jacobian family: images that are moved in a round, after the third (published: 400)."""
    rounds_epochs: int = 10
    """Jacobian family: epochs of the substitute in each round (published: 20)."""
    folder: str = "undefended"
    """Where below `runs` the records and the table go."""

    def preset(self, name: Name) -> "Config":
        """The same with a preset's victim and attack; converted weights of the victim stay."""
        found = presets()[name]
        victim = dataclasses.replace(found.victim, weights=self.victim.weights)
        return dataclasses.replace(self, victim=victim, attack=found.attack)


def strategies(config: Config) -> dict[Attack, Any]:
    """How each attack chooses its queries."""
    from pp_jax import attacks, training

    network, pool = config.network(), config.pool()
    rewards = attacks.Certainty(), attacks.Diversity(), attacks.Loss()
    substitute = training.Recipe(config.rounds_epochs, learning_rate=0.1, momentum=0.9)
    options: dict[str, Any] = {
        "recipe": substitute,
        "seed_size": config.seed_size,
        "reservoir": config.reservoir,
    }
    classes = common.known_classes(pool)
    return {
        "knockoff": attacks.Knockoff(),
        "adaptive": attacks.AdaptiveKnockoff(classes, rewards=rewards, thief=network, batch_size=50),
        "jbda": attacks.jbda(network, **options),
        "jb_self": attacks.jb_self(network, **options),
        "jb_topk": attacks.jb_topk(network, **options),
    }


def seeds_apart(test: Any) -> tuple[Any, Any]:
    """The test images that the Jacobian family starts from, and those that it is judged on."""
    from pp_jax.evaluation import Images

    first = len(test.images) - min(1000, len(test.images) // 2)
    seeds = Images(test.images[first:], test.labels[first:], f"{test.name} seeds", test.class_names)
    return seeds, Images(test.images[:first], test.labels[:first], test.name, test.class_names)


def numbers(config: Config) -> tuple[Mapping[str, Sequence[float]], list[Any]]:
    """Accuracies in % of the victim and of each attack, over seeds, and the records behind them."""
    from pp_jax.evaluation import Attacker

    chosen = {name: strategy for name, strategy in strategies(config).items() if name in config.attacks}
    querying = [Attacker(name, strategy=chosen[name]) for name in ("knockoff", "adaptive") if name in chosen]
    making = [Attacker(name, strategy=strategy) for name, strategy in chosen.items() if name.startswith("jb")]
    seeds, rest = seeds_apart(config.test())
    found: dict[str, Sequence[float]] = {}
    records = []
    for attackers, sets in ((making, {"pool": seeds, "test": rest}), (querying, {})):
        if attackers:
            (row,) = config.evaluate([], attackers, config.folder, **sets).rows
            found |= {"victim": row.defender[:1], **row.attacks}
            records += row.records
    return found, records


def run(config: Config) -> Any:
    """Compute what is missing and can be computed; the table."""
    from pp_jax.results.tables import Table, provenance, spread

    known = presets()
    rows, records = [], []
    for name in config.presets or (None,):
        own = config if name is None else config.preset(name)
        published = {} if name is None else known[name].published
        found: Mapping[str, Sequence[float]] = {}
        if name is not None and (lacking := known[name].missing(config.data_dir)):
            print(f"preset {name} is not run: first {' and '.join(lacking)}", file=sys.stderr)
        else:
            found, more = numbers(own)
            records += more
        texts = [
            spread(found.get(column, ())) + (f" ({published[column]:.1f})" if column in published else "")
            for column in ("victim", *config.attacks)
        ]
        rows.append([name or f"{own.victim.dataset} ← {own.attack.pool}", str(own.attack.budget), *texts])
    note = "Test accuracy in %, obtained (published, B = 50 000); mean ± half the range over seeds. " + provenance(
        records
    )
    headings = ("preset", "queries", "victim", *(HEADINGS[name] for name in config.attacks))
    return Table("Undefended victims", headings, rows, note)


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    common.show(lambda: run(config), config.runs / config.folder / "undefended.md")


if __name__ == "__main__":
    main()
