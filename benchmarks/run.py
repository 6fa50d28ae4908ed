"""Run the benchmarks: a table in the terminal, and all that was measured in a JSON file.

    python benchmarks/run.py                    # about 13 minutes on 2 idle cores
    python benchmarks/run.py --only mad_lenet   # one of them

Every benchmark runs in a process of its own, one after the other, so that none inherits another's memory or threads.
A bound that does not hold is reported, not an error; a benchmark that cannot run is one.
"""

import dataclasses
import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal, get_args

import tyro

HERE = Path(__file__).resolve().parent
Name = Literal[
    "train_step",
    "forward",
    "gram",
    "mad_lenet",
    "mad_vgg",
    "defenses",
    "augmentation",
    "data_free",
    "sweep",
    "streams",
    "modelguard",
    "detectors",
    "committee",
    "population",
]
NAMES: tuple[Name, ...] = get_args(Name)
# Benchmarks that are not the function `rows` of the script of their name.
PLACES = {"mad_lenet": ("mad", "lenet_rows"), "mad_vgg": ("mad", "vgg_rows"), "defenses": ("query_time", "rows")}


@dataclasses.dataclass(frozen=True)
class Config:
    """Run the benchmarks and keep the numbers."""

    only: tuple[Name, ...] = NAMES
    """Which of them."""
    out: Path = Path("runs/bench.json")
    """Where the rows go: a list of {name, ratio, bound, holds, details}."""
    isolated: bool = True
    """Run each in a process of its own."""
    limit: int = 900
    """Seconds that one of them may take."""


def measure(name: Name) -> list[dict[str, Any]]:
    """The rows of one benchmark, in this process."""
    import harness

    # Imported here: `--help` must not wait for JAX.
    script, function = PLACES.get(name, (name, "rows"))
    rows = getattr(importlib.import_module(script), function)()
    return [located(row, harness.environment()) for row in rows]


def located(row: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    """A row with the environment among its details."""
    return {**row, "details": {**environment, **row["details"]}}


def measure_isolated(name: Name, limit: int) -> list[dict[str, Any]]:
    """The rows of one benchmark, from a process of its own.

    Raises:
        RuntimeError: if that process failed or took too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, str(HERE / "run.py"), "--only", name, "--no-isolated", "--out", str(out)]
        try:
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=limit)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"took more than {limit} s") from error
        if done.returncode != 0 or not out.exists():
            raise RuntimeError(done.stderr.strip() or f"exit status {done.returncode}")
        rows: list[dict[str, Any]] = json.loads(out.read_text())
        return rows


def show(rows: list[dict[str, Any]]) -> None:
    """The table, and below it the bounds that do not hold."""
    from rich.console import Console
    from rich.table import Table

    table = Table("name", title="Benchmarks")
    for heading in ("ratio", "bound"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("holds")
    for row in rows:
        verdict = "[green]yes[/]" if row["holds"] else "[bold red]no[/]"
        table.add_row(row["name"], f"{row['ratio']:.3g}", row["bound"], verdict)
    console = Console()
    console.print(table)
    broken = [row["name"] for row in rows if not row["holds"]]
    console.print(f"{len(rows) - len(broken)} of {len(rows)} bounds hold", highlight=False)
    for name in broken:
        console.print(f"does not hold: {name}", markup=False, highlight=False, soft_wrap=True)


def main(config: Config) -> int:
    """Measure, show, write; the number of benchmarks that could not run."""
    from pp_jax import _files

    try:
        _files.check_replaceable(config.out, mark=b'"holds": ')
    except ValueError as error:
        sys.exit(f"error: {error}")
    _files.check_writable(config.out.absolute().parent)
    rows, failed = [], 0
    for name in config.only:
        print(f"{name} …", file=sys.stderr, flush=True)
        start = time.monotonic()
        try:
            rows += measure_isolated(name, config.limit) if config.isolated else measure(name)
        except RuntimeError as error:
            if not config.isolated:
                raise
            failed += 1
            print(f"{name} could not run: {error}", file=sys.stderr)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    if not rows:  # nothing to say: what is there stays
        return failed
    _files.write_bytes(config.out, (json.dumps(rows, indent=1) + "\n").encode())
    if config.isolated:
        show(rows)
        print(f"wrote {config.out}")
    return failed


if __name__ == "__main__":
    sys.exit(min(1, main(tyro.cli(Config, description=__doc__))))
