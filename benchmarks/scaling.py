"""What a query and a theft cost: every stage against its variables, fitted laws, and whether they predict larger runs.

    python benchmarks/scaling.py --out docs/scaling.json --markdown docs/scaling.md     # on 2 idle cores
    python benchmarks/scaling.py --quick                                               # a smoke run

Every stage is timed against one variable at a time, the others held; seconds are the least of several turns. What
larger runs will take is computed and printed before any of them is measured. Networks are untrained, images noise,
seeds fixed. `--markdown` writes the tables between their markers into a page.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure, fit, predict, check."""

    quick: bool = False
    """A smoke run: small networks, few points, no meaning in its numbers."""
    out: Path = Path("runs/scaling.json")
    """Where all rows, fits and checks go."""
    markdown: Path | None = None
    """A page with markers, `<!-- begin: laws -->` … `<!-- end: laws -->`, whose tables are replaced."""


def measured(sweeps: Sequence[Any]) -> list[Row]:
    """Rows of all sweeps, each with the variable and the fit it belongs to."""
    from scaling_measure import measure

    rows = []
    for sweep in sweeps:
        start = time.monotonic()
        found = measure(sweep.jobs(), repeats=sweep.repeats)
        rows += [{"sweep": sweep.name, "variable": sweep.variable, **row} for row in found]
        print(f"{sweep.name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return rows


def predicted(checks: Sequence[Any], models: Mapping[str, Any]) -> list[Row]:
    """For each larger run its name and what the model says of it on both clocks; nothing is run."""
    return [
        {"name": check.name, "predicted": {clock: check.predict(model) for clock, model in models.items()}}
        for check in checks
    ]


def checked(checks: Sequence[Any], predictions: Sequence[Row]) -> list[Row]:
    """The predictions with what was then measured, and the ratio of the two."""
    from scaling_measure import least, measure

    results = []
    for check, prediction in zip(checks, predictions, strict=True):
        (row,) = measure([check.job()], repeats=check.repeats, warmup=check.warmup)
        seconds = {clock: least(row, clock) for clock in prediction["predicted"]}
        ratio = {clock: prediction["predicted"][clock] / seconds[clock] for clock in seconds}
        results.append({**prediction, "measured": seconds, "ratio": ratio, "row": row})
        print(f"{check.name}: predicted / measured = {ratio['wall']:.3g}", file=sys.stderr, flush=True)
    return results


def run(quick: bool) -> dict[str, Any]:
    """All numbers: the environment, rows, fits, predictions with their checks, and what follows for large runs."""
    import harness
    import scaling_model
    import scaling_plan
    import scaling_sweeps
    import scaling_tables
    from scaling_measure import on_devices

    plan = scaling_plan.QUICK if quick else scaling_plan.FULL
    start = time.monotonic()
    rows = measured(scaling_sweeps.sweeps(plan))
    devices = on_devices(2, plan.devices_batch)
    models = scaling_model.models_of(rows)
    checks = scaling_sweeps.checks(plan)
    predictions = predicted(checks, models)
    print(scaling_tables.predictions(predictions), flush=True)
    result = {
        "environment": harness.environment(),
        "quick": quick,
        "rows": rows,
        "devices": devices,
        "fits": {clock: dataclasses.asdict(model) for clock, model in models.items()},
        "checks": checked(checks, predictions),
        "serving": [scaling_model.serving(case, law, models) for case, law in plan.served],
        "thefts": [scaling_model.theft(name, case, models) for name, case in plan.thefts],
    }
    return {**result, "minutes": (time.monotonic() - start) / 60}


def main(config: Config) -> None:
    """Measure, show, write."""
    from pp_jax import _files

    _files.check_writable(config.out.absolute().parent)
    page = None if config.markdown is None else config.markdown.read_text()
    import scaling_tables

    result = run(config.quick)
    tables = scaling_tables.tables(result)
    print("\n\n".join(tables.values()))
    _files.write_bytes(config.out, (json.dumps(result, indent=1) + "\n").encode())
    print(f"wrote {config.out}")
    if config.markdown is not None and page is not None:
        _files.write_bytes(config.markdown, scaling_tables.filled(page, tables).encode())
        print(f"wrote {config.markdown}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
