"""Child process of the fault tests: an evaluation of a second that others may share or end; prints what it computed."""

import json
import sys
from typing import NamedTuple

import pp_jax
import smallworld as small
from pp_jax.evaluation import Attacker, Entry, runs


class Done(NamedTuple):
    """An evaluation that has come to its end."""

    report: object
    computed: list  # names of the records that this process wrote


def evaluate(folder):
    """Two defenses and none, four seeds."""
    computed, write = [], runs.records.write

    def heard(*arguments, **options):
        computed.append(write(*arguments, **options).stem)

    runs.records.write = heard
    try:
        report = pp_jax.evaluate(
            small.victim(), [Entry(pp_jax.Rounding, decimals=1), Entry(pp_jax.RandomNoise, radius=2.0)],
            attackers=[Attacker("plain")], pool=small.pool(), test=small.test_images(), budget=128,
            seeds=(0, 1, 2, 3), recipe=small.RECIPE, runs_folder=folder,
        )  # fmt: skip
    finally:
        runs.records.write = write
    return Done(report, computed)


def results(done):
    """Configuration and result of every run, exact."""
    found = [record for row in done.report.rows for record in row.records]
    return {json.dumps(record.config, sort_keys=True): json.dumps(record.result, sort_keys=True) for record in found}


if __name__ == "__main__":
    print(json.dumps({"computed": evaluate(sys.argv[1]).computed}))
