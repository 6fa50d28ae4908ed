"""What a query and an attack cost: every stage against its variables, fitted laws, and how they predict larger runs.

    python benchmarks/scaling.py --out benchmarks/scaling.json --markdown docs/scaling.md      # on 2 idle cores
    python benchmarks/scaling.py --read benchmarks/scaling.json --markdown docs/scaling.md     # the tables alone
    python benchmarks/scaling.py --quick                                                       # a smoke run

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
    """Where all rows, fits and checks go, a line each."""
    read: Path | None = None
    """Take the numbers from this file instead of measuring."""
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
        "attacks": [scaling_model.attack(name, case, models) for name, case in plan.attacks],
    }
    return {**result, "minutes": (time.monotonic() - start) / 60}


def text(result: Mapping[str, Any]) -> str:
    """JSON with a line for each number, row, fit and check."""
    parts = []
    for name, value in result.items():
        lines = [json.dumps(each) for each in value] if isinstance(value, list) else []
        block = "[\n  " + ",\n  ".join(lines) + "\n ]" if lines else json.dumps(value)
        parts.append(f"{json.dumps(name)}: {block}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def main(config: Config) -> None:
    """Measure, or read what was measured; show, write."""
    import scaling_tables
    from pp_jax import _files

    page = None if config.markdown is None else config.markdown.read_text()
    if config.read is None:
        try:
            _files.check_replaceable(config.out, mark=b'"pp-jax": ')
        except ValueError as error:
            sys.exit(f"error: {error}")
        _files.check_writable(config.out.absolute().parent)
        result = run(config.quick)
        _files.write_bytes(config.out, text(result).encode())
        print(f"wrote {config.out}")
    else:
        result = json.loads(config.read.read_text())
    tables = scaling_tables.tables(result)
    print("\n\n".join(tables.values()))
    if config.markdown is not None and page is not None:
        _files.write_bytes(config.markdown, scaling_tables.filled(page, tables).encode())
        print(f"wrote {config.markdown}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
