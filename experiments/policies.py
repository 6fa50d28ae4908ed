"""Policies in the worst-case table: detector and action, against attackers who hold one account, ten or a hundred.

    python -m experiments.policies                                        # MNIST ← font_letters, about 15 minutes
    python -m experiments.policies --attack.pool notmnist --attack.budget 2000 --seeds 0 1 2

A policy is fitted on the victim's training images (thresholds at a false-alarm rate of 1 % per account) and stands in
the table like any defense; the note below it says which benign accounts it accuses. An attacker with several accounts
spends an even share of its budget with each, and its responses go into one transfer set. Writes a record per run and
`policies.md` into `runs/policies`. Times are for 2 CPU cores.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tyro

from experiments import common
from pp_jax._command import command

DETECTORS = ("dadd", "p_values", "label_mmd")


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Detectors × actions × attackers × seeds."""

    detectors: tuple[str, ...] = DETECTORS
    """Functions in `pp_jax.detection.makers`."""
    rate: float = 0.01
    """False alarms per benign account."""
    queries: int = 1000
    """Of the benign accounts that thresholds are set on."""
    accounts: int = 200
    """How many of these; a rate of 1 % needs 99."""
    folder: str = "policies"
    """Where below `runs` the records and the table go."""


def entries(
    detectors: Sequence[str], actions: Sequence[Any], *, rate: float = 0.01, queries: int = 1000, accounts: int = 200
) -> list[Any]:
    """Policies, every detector with every action above its threshold.

    Raises:
        ValueError: for a detector that does not exist.
    """
    from pp_jax import Entry, chain
    from pp_jax.detection import Policy, makers

    known = {maker.__name__: maker for maker in makers.MAKERS}
    if unknown := [name for name in detectors if name not in known]:
        raise ValueError(f"there is no detector {unknown[0]!r}: must be of {', '.join(known)}")
    fitted: dict[str, Any] = {"rates": (rate,), "queries": queries, "accounts": accounts}
    return [
        Entry(Policy, detector=known[name], actions=(chain(), action), **fitted)
        for name in detectors
        for action in actions
    ]


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    from pp_jax.defenses import Resampled
    from pp_jax.detection import Blocked
    from pp_jax.evaluation import AttackerSet, attackers

    members = (
        attackers.PLAIN,
        attackers.HARD_LABEL,
        attackers.NEIGHBOURS,
        dataclasses.replace(attackers.ACCOUNTS, name="10 accounts", accounts=10),
        attackers.ACCOUNTS,
    )

    def table() -> Any:
        how: dict[str, Any] = {"rate": config.rate, "queries": config.queries, "accounts": config.accounts}
        rows = entries(config.detectors, (Resampled, Blocked()), **how)
        return config.evaluate(rows, AttackerSet("accounts", "2026.12", members), config.folder).table()

    common.show(table, config.runs / config.folder / "policies.md")


if __name__ == "__main__":
    main()
