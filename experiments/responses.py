"""What responses look like: how far every defense turns an attacker's gradient, and how sure its responses are.

    python -m experiments.responses --preset mnist_notmnist           # about 2 minutes on 2 CPU cores

Trains a victim if there is none yet (90 seconds more), but no stolen model: queries the pool through each defense and
measures the angle between the gradients of clean posterior and response, as the defender's surrogate sees them, and
the entropy of the responses, beside that of clean posteriors of the pool and of the victim's own test images. Prints
both tables and writes them as `responses.md`, with `angles.png` and `entropy.png`, into `runs/responses`. Expected on
MNIST ← notMNIST, seed 0: a mean angle of 62.1° for MAD at ε = 0.99, 103.4° at 2 (docs/results/responses.md). A killed
run goes on where it stopped.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from experiments import common, presets
from pp_jax._command import command

EPSILONS = (0.1, 0.2, 0.5, 0.9, 0.95, 0.99, 1.0, 1.5, 2.0)
DEFENSES = (
    *(f"MAD(epsilon={epsilon})" for epsilon in EPSILONS),
    *(f"MAD(epsilon={epsilon}, keep_argmax=True)" for epsilon in EPSILONS),
    *(f"ReverseSigmoid(beta={beta}, gamma=0.2)" for beta in (0.3, 0.6, 1.0)),
)
ANGLE_BINS = 36  # of 5 degrees
ENTROPY_BINS = 30
PUBLISHED = (
    "Published for CIFAR-10 (Orekondy et al., Prediction Poisoning, 2020): mean angular deviation 24.9° for ε in "
    "[0.95, 0.99], above 90° at ε = 2."
)
_MEASURES = ("mean", "p1", "p10", "p50", "p90", "p99", "max")


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Defenses, for one victim, one pool and the first of the seeds; how attackers train does not count."""

    preset: presets.Name | None = None
    """Where the other options start: see `python -m experiments.presets`."""
    defense: tuple[str, ...] = DEFENSES
    """Which: a class of pp_jax.defenses with its parameters, or yours, as in mine.py:Mine."""
    folder: str = "responses"
    """Where below `runs` the records, the tables and the figures go."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """A defense in words, its family, and what was measured of its responses."""

    name: str
    family: str
    record: Any

    @property
    def result(self) -> dict[str, Any]:
        """The numbers."""
        return dict(self.record.result)


def run(config: Config) -> list[Measured]:
    """Query through each defense that has not been, undefended first."""
    from pp_jax import records
    from pp_jax.evaluation import Run, Setup
    from pp_jax.evaluation.attackers import PLAIN

    victim, rows, given = config.checked(common.parsed(config.defense), (PLAIN,), config.folder)
    shared = {name: given[name] for name in ("pool", "test", "network", "recipe", "budget", "outliers")}
    folder = given["runs_folder"]
    setup = Setup(victim, **shared, note={"measured": "responses"}, kept=folder / "networks")
    found = []
    for row in rows:
        each = Run(row, PLAIN, config.seeds[0])
        settings = each.config(setup)

        def work(each: Any = each, settings: Any = settings) -> None:
            started = time.perf_counter()
            result = measure(setup, each)
            timings = {"total_s": time.perf_counter() - started}
            records.write(folder, kind="responses", config=settings, result=result, timings=timings)

        found.append(Measured(row.text(), row.label, records.once(folder, settings, work, wait=True)))
    return found


def measure(setup: Any, run: Any) -> dict[str, Any]:
    """Query the pool and the test images through one defense: what the responses are like."""
    from pp_jax import metrics
    from pp_jax.evaluation import judging, runs, setups

    at = setups.deploy(setup, run.entry, run.seed)
    images, responses = runs.query(setup, at, run.attacker, lambda _: None).transfer
    clean, own = (metrics.predict(at.box.logits_fn, at.box.params, some) for some in (images, setup.test.images))
    network, params = at.surrogate
    angles = metrics.angular_deviation(clean, responses, images, logits_fn=network, params=params)
    answered = judging.ask(at.box, setup.test.images)[0]
    return {
        "defender_accuracy": metrics.accuracy(answered, setup.test.labels),
        "queries": len(images),
        "query_l1": metrics.distances(clean, responses)["l1"],
        "query_kept_argmax": metrics.agreement(responses, clean),
        "query_angle_degrees": distribution(angles, ANGLE_BINS, 180),
        "entropy_of_responses": entropy(responses),
        "entropy_of_pool": entropy(clean),
        "entropy_of_own": entropy(own),
        "classes": setup.classes,
    }


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


def tables(config: Config, found: Sequence[Measured]) -> tuple[Any, Any]:
    """Angles and entropies, a row a defense."""
    from pp_jax.results.tables import Table, provenance

    def numbers(values: dict[str, float], digits: int) -> list[str]:
        return [f"{values[name]:.{digits}f}" for name in _MEASURES]

    lines = []
    for each in found:
        shares = (each.result["query_kept_argmax"], each.result["defender_accuracy"])
        costs = [f"{each.result['query_l1']['mean']:.2f}", *(f"{100 * share:.1f}" for share in shares)]
        lines.append([each.name, *numbers(each.result["query_angle_degrees"], 1), *costs])
    entropies = [[name, *numbers(values, 2)] for name, values in sources(config, found, found).items()]
    headings = ("defense", *_MEASURES, "mean L1", "argmax kept %", "defender %")
    title = f"Angle between the gradients of clean posterior and response, degrees, {setting(config)}"
    note = f"{PUBLISHED} {provenance(each.record for each in found)}"
    return (
        Table(title, headings, lines, note, hidden=("p1", "p99", "max")),
        Table("Entropy of posteriors, nats", ("posteriors", *_MEASURES), entropies, ""),
    )


def figures(config: Config, found: Sequence[Measured]) -> dict[str, Any]:
    """By file name; of the entropies only the weakest, middle and strongest of each defense, as they were given."""
    import numpy as np

    from pp_jax import plots

    def draw(panels: dict[str, Any], bins: int, most: float, x_label: str) -> Any:
        counts, means = ({name: panel[part] for name, panel in panels.items()} for part in ("counts", "mean"))
        edges = np.linspace(0, most, bins + 1).tolist()
        return plots.histograms(counts, means=means, edges=edges, x_label=x_label, title=setting(config))

    families: dict[str, list[Measured]] = {}
    for each in found[1:]:
        families.setdefault(each.family, []).append(each)
    few = [several[i] for several in families.values() for i in sorted({0, len(several) // 2, len(several) - 1})]
    angles = {each.name: each.result["query_angle_degrees"] for each in found[1:] or found}
    degrees = "angle between the gradients of clean posterior and response (degrees)"
    nats = f"entropy (nats) of clean posteriors, and of the responses to {config.attack.pool}"
    most = float(np.log(found[0].result["classes"]))
    return {
        "angles.png": draw(angles, ANGLE_BINS, 180, degrees),
        "entropy.png": draw(sources(config, found, few), ENTROPY_BINS, most, nats),
    }


def sources(config: Config, found: Sequence[Measured], shown: Sequence[Measured]) -> dict[str, dict[str, Any]]:
    """Distributions of entropy by whose posteriors they are: the victim's own test set, the pool, the responses."""
    first = found[0]
    return {
        f"clean, {config.victim.dataset} (test)": first.result["entropy_of_own"],
        f"clean, {config.attack.pool}": first.result["entropy_of_pool"],
        **{each.name: each.result["entropy_of_responses"] for each in shown if each is not first},
    }


def setting(config: Config) -> str:
    """Victim, pool, queries and seed in words."""
    queries = f"{config.attack.budget:,} queries".replace(",", " ")
    return f"{config.victim.dataset} ← {config.attack.pool}, {config.attack.model}, {queries}, seed {config.seeds[0]}"


@command()
def main() -> None:
    """Command line."""
    config = presets.cli(Config, __doc__)
    from pp_jax import _files, plots

    folder = config.runs / config.folder
    with common.errors():
        _files.check_replaceable(*(folder / name for name in ("responses.md", "angles.png", "entropy.png")))
        found = run(config)
        shown = tables(config, found)
        text = "\n".join(table.markdown() for table in shown)
        paths = [
            _files.write_bytes(folder / "responses.md", f"{text}\n{_files.MARKDOWN}".encode(), mark=_files.MARKS[".md"])
        ]
        paths += [plots.save(figure, folder / name) for name, figure in figures(config, found).items()]
    for table in shown:
        table.print()
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
