"""DP-SGD as a defense: victims trained with per-example clipping and noise, and stolen.

    python -m experiments.private --preset mnist_notmnist --noise 1 4      # about 12 minutes on 2 CPU cores

A private victim protects its training data; the paper asks whether that also protects the model. Per-example gradients
cost about ten times an ordinary step on a CPU, so all victims see 20 000 images, the one without noise among them.
Expected on MNIST ← notMNIST, seed 0: without noise victim 98.3 %, attacker 95.2; at σ = 4 (ε = 0.21) 79.5 and 72.5
(docs/results/private.md). Writes a record per run and `private.md` into `runs/private`.
"""

import dataclasses
from typing import Any

from experiments import common, presets
from experiments.victims import VictimOptions
from pp_jax._command import command


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Noise multipliers × seeds."""

    preset: presets.Name | None = None
    """Where the other options start: see `python -m experiments.presets`."""
    noise: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    """Noise multipliers σ; no noise comes first."""
    train_size: int = 20_000
    """Training images of the victims."""
    batch_size: int = 256
    """Of the victims: noise is averaged over it."""
    learning_rate: float = 0.25
    """Of the victims."""
    folder: str = "private"
    """Where below `runs` the records and the table go."""

    def victim_with(self, noise: float | None) -> VictimOptions:
        """The victim at a noise multiplier; None is an ordinary one."""
        return dataclasses.replace(
            self.victim,
            train_size=self.train_size,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            noise_multiplier=noise,
        )


def run(config: Config) -> Any:
    """Compute what is missing, an evaluation a victim; the table."""
    from pp_jax import records
    from pp_jax.evaluation.attackers import PLAIN
    from pp_jax.results.tables import Table, provenance, spread

    lines, behind = [], []
    for noise in (None, *config.noise):
        options = config.victim_with(noise)
        report = dataclasses.replace(config, victim=options).evaluate([], (PLAIN,), config.folder)
        (row,) = report.rows
        record = records.find(config.runs / "victims", {"victim": options.settings()})
        epsilon = record.result.get("dp_epsilon") if record else None
        guarantee = "∞" if epsilon is None else f"{epsilon:.2f}"
        name = "no" if noise is None else f"σ = {noise:g}"
        lines.append([name, guarantee, spread(row.defender[:1]), spread(row.attacks["plain"])])
        behind += row.records
    note = (
        f"ε of (ε, 1e-5)-differential privacy, clipping at {config.victim.clip:g}; {config.train_size} training images;"
        " mean ± half the range over seeds. " + provenance(behind)
    )
    title = f"DP-SGD victims, {config.victim.dataset} ← {config.attack.pool}"
    return Table(title, ("noise", "ε", "victim %", "attacker %"), lines, note)


@command()
def main() -> None:
    """Command line."""
    config = presets.cli(Config, __doc__)
    common.show(lambda: run(config), config.runs / config.folder / "private.md")


if __name__ == "__main__":
    main()
