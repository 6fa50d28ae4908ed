"""What the answers look like: how far every defense turns a thief's gradient, and how sure its answers are.

    python experiments/answers.py                          # MNIST <- font_letters, about 2 minutes
    python experiments/answers.py --attack.pool notmnist --mad .99 --mad-argmax .99 --reverse-sigmoid 1

Trains a victim if there is none yet (90 seconds more), but no thief: asks about 10 000 images of the pool through each
defense and measures the angle between the gradients of clean posterior and answer, as the defender's surrogate sees
them, and the entropy of the answers, beside that of clean posteriors of the pool and of the victim's own test images.
Prints both tables and writes them as `angles.md`, with `angles.png` and `entropy.png`, into `runs/answers`. The same
seed gives the same answers as in `steal.py`. Times are for 2 CPU cores, a defense takes 5 s there. A killed run resumes
where it stopped.

Published for CIFAR-10 (Orekondy et al., Prediction Poisoning, 2020): a mean angular deviation of 24.9° for ε in
[.95, .99], and above 90° at ε = 2.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import steal
import tyro
from cells import grid, tables
from cells.machines import Machines
from thieves import judging, theft
from thieves.attackers import Attack
from tradeoff import Grid
from train_victim import Victim

Record = Any

EPSILONS = (0.1, 0.2, 0.5, 0.9, 0.95, 0.99, 1.0, 1.5, 2.0)
ANGLE_BINS = 36  # of 5 degrees
ENTROPY_BINS = 30
PUBLISHED = (
    "Published for CIFAR-10 (Orekondy et al., Prediction Poisoning, 2020): mean angular deviation 24.9° for ε in "
    "[.95, .99], above 90° at ε = 2."
)

_MEASURES = ("mean", "p1", "p10", "p50", "p90", "p99", "max")
_ASKED = ("pool", "split", "resize", "budget", "model")


@dataclasses.dataclass(frozen=True)
class Config:
    """Defenses × strengths, for one victim and one pool."""

    victim: Victim = dataclasses.field(default_factory=Victim)
    attack: Attack = dataclasses.field(default_factory=Attack)
    """Only pool, split, resize, budget and model (the surrogate's architecture) count: nothing is stolen."""
    grid: tyro.conf.OmitArgPrefixes[Grid] = dataclasses.field(
        default_factory=lambda: Grid(
            mad=EPSILONS,
            mad_argmax=EPSILONS,
            reverse_sigmoid=(0.3, 0.6, 1.0),
            random_noise=(),
            top_k=(),
            rounding=(),
            top_1=False,
        )
    )
    seed: int = 0
    """Of the order of queries, the surrogate and the owner's key."""
    runs: Path = Path("runs")
    """Folder of all results."""
    folder: str = "answers"
    """Where below it the records, the tables and the figures go."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""
    machines: tyro.conf.OmitArgPrefixes[Machines] = dataclasses.field(default_factory=Machines)

    def cells(self) -> list[steal.Config]:
        """One configuration per defense, the undefended victim first."""
        return [
            steal.Config(self.victim, self.attack, defense, seed=self.seed, runs=self.runs, data_dir=self.data_dir)
            for defense in self.grid.defenses()
        ]


def settings(cell: steal.Config) -> dict[str, Any]:
    """What determines the answers, as their record has it."""
    attack = cell.attack.settings()
    asked = {name: attack[name] for name in _ASKED if name in attack}
    return {"measured": "answers", **cell.settings(), "attack": asked}


def run(config: Config) -> list[Record]:
    """Compute every cell that is missing; the records of all, in the order of the cells."""
    if config.attack.name != "knockoff":
        raise ValueError(f"attack.name is {config.attack.name}: must be knockoff, as random images of a pool are asked")
    folder = config.runs / config.folder
    job = grid.Job(config.folder, "asking", settings, lambda cell, _: measure(cell, folder))
    return list(grid.compute(config.cells(), job, config.machines).values())


def measure(cell: steal.Config, folder: Path) -> None:
    """Ask about the pool and the test images through one defense, and write the record of what was answered."""
    from pp_jax import attacks, metrics, records

    started = time.perf_counter()
    at = theft.scene(cell)
    asked = attacks.collect(at.attack_key, attacks.Knockoff(), at.pool.images, at.box.api(), budget=cell.attack.budget)
    clean = metrics.predict(at.victim.network, at.victim.params, asked.images)
    network, surrogate = at.surrogate
    angles = metrics.angular_deviation(clean, asked.answers, asked.images, logits_fn=network, params=surrogate)
    answers, own = judging.ask(at.box, at.test.images)
    result = {
        "victim_accuracy": at.victim.accuracy,
        "defender_accuracy": metrics.accuracy(answers, at.test.labels),
        "queries": len(asked.images),
        "query_l1": metrics.distances(clean, asked.answers)["l1"],
        "query_kept_argmax": metrics.agreement(asked.answers, clean),
        "query_angle_degrees": distribution(angles, ANGLE_BINS, 180),
        "entropy_of_answers": entropy(asked.answers),
        "entropy_of_pool": entropy(clean),
        "entropy_of_own": entropy(own),
        "classes": at.test.num_classes,
    }
    timings = {"total_s": time.perf_counter() - started}
    records.write(folder, kind="answers", config=settings(cell), result=result, timings=timings)


def entropy(probs: Any) -> dict[str, Any]:
    """Distribution of the entropy of posteriors, (N, K), in nats."""
    import numpy as np

    from pp_jax import metrics

    return distribution(metrics.entropy(probs), ENTROPY_BINS, float(np.log(probs.shape[-1])))


def distribution(values: Any, bins: int, most: float) -> dict[str, Any]:
    """What `metrics.summary` says of (N,) values, the lower tail, and the counts of equal bins on [0, most]."""
    import numpy as np

    from pp_jax import metrics

    p1, p10 = np.percentile(np.asarray(values, np.float64), [1, 10])
    counts, _ = np.histogram(np.clip(values, 0, most), bins, (0, most))
    return {**metrics.summary(values), "p1": p1, "p10": p10, "counts": counts.tolist()}


def write(cells: Sequence[Record], folder: Path) -> list[Path]:
    """Tables and figures from the records of one seed, into a folder."""
    from pp_jax import _files, plots

    text = "\n".join(table.markdown() for table in summaries(cells))
    paths = [_files.write_bytes(folder / "angles.md", text.encode())]
    return paths + [plots.save(figure, folder / name) for name, figure in pictures(cells).items()]


def summaries(cells: Sequence[Record]) -> tuple[tables.Table, tables.Table]:
    """Angles and entropies, a row a defense."""

    def numbers(values: dict[str, float], digits: int) -> list[str]:
        return [f"{values[name]:.{digits}f}" for name in _MEASURES]

    def costs(result: dict[str, Any]) -> list[str]:
        shares = (result["query_kept_argmax"], result["defender_accuracy"])
        return [f"{result['query_l1']['mean']:.2f}", *(f"{100 * share:.1f}" for share in shares)]

    rows = [[label(cell), *numbers(cell.result["query_angle_degrees"], 1), *costs(cell.result)] for cell in cells]
    entropies = [[name, *numbers(values, 2)] for name, values in sources(cells).items()]
    angles = ("defense", *_MEASURES, "mean L1", "argmax kept %", "defender %")
    degrees = "Angle between the gradients of clean posterior and answer, degrees"
    note = f"{PUBLISHED} {tables.provenance(cells)}"
    return (
        tables.Table(f"{degrees}, {title(cells[0])}", angles, rows, note, hidden=("p1", "p99", "max")),
        tables.Table("Entropy of posteriors, nats", ("posteriors", *_MEASURES), entropies, ""),
    )


def sources(cells: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Distributions of entropy by whose posteriors they are: the victim's own test set, the pool, the answers."""
    config, first = cells[0].config, cells[0].result
    return {
        f"clean, {config['victim']['dataset']} (test)": first["entropy_of_own"],
        f"clean, {config['attack']['pool']}": first["entropy_of_pool"],
        **{label(cell): cell.result["entropy_of_answers"] for cell in defended(cells)},
    }


def pictures(cells: Sequence[Record]) -> dict[str, Any]:
    """The figures by file name; of the entropies only the weakest, middle and strongest of each defense."""
    import numpy as np

    from pp_jax import plots

    def draw(panels: dict[str, Any], bins: int, most: float, **texts: str) -> Any:
        counts, means = ({name: panel[part] for name, panel in panels.items()} for part in ("counts", "mean"))
        return plots.histograms(counts, means=means, edges=np.linspace(0, most, bins + 1).tolist(), **texts)

    angles = {label(cell): cell.result["query_angle_degrees"] for cell in defended(cells) or cells}
    heading = title(cells[0])
    degrees = "angle between the gradients of clean posterior and answer (degrees)"
    nats = f"entropy (nats) of clean posteriors, and of the answers to {cells[0].config['attack']['pool']}"
    most = float(np.log(cells[0].result["classes"]))
    return {
        "angles.png": draw(angles, ANGLE_BINS, 180, x_label=degrees, title=heading),
        "entropy.png": draw(sources(telling(cells)), ENTROPY_BINS, most, x_label=nats, title=heading),
    }


def telling(cells: Sequence[Record]) -> list[Record]:
    """The weakest, the middle and the strongest of every defense."""
    families: dict[str, list[Record]] = {}
    for cell in cells:
        families.setdefault(cell.config["defense"]["name"], []).append(cell)
    return [cells[i] for cells in families.values() for i in sorted({0, len(cells) // 2, len(cells) - 1})]


def defended(cells: Sequence[Record]) -> list[Record]:
    """All but the victim without a defense, whose answers are its clean posteriors."""
    return [cell for cell in cells if cell.config["defense"]["name"] != "none"]


def label(cell: Record) -> str:
    """The defense in words."""
    from pp_jax.results import summary

    return summary.describe_defense(cell.config["defense"])


def title(cell: Record) -> str:
    """Victim, pool, queries and seed in words."""
    victim, attack = cell.config["victim"], cell.config["attack"]
    queries = f"{attack['budget']:,} queries".replace(",", " ")
    return f"{victim['dataset']} ← {attack['pool']} · {victim['model']} · {queries} · seed {cell.config['seed']}"


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    try:
        cells = run(config)
        paths = write(cells, config.runs / config.folder)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from the finished defenses")
    for table in summaries(cells):
        table.print()
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
