"""Redraw the trade-off figure and the report from records alone.

    python experiments/plot.py --runs runs/tradeoff

takes about 5 seconds for a few dozen cells and writes ``tradeoff.png`` (1200 pixels wide), ``report.html``
(self-contained) and the table as ``tradeoff.md`` into the folder of the records, after a table in the terminal.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import tyro


@dataclasses.dataclass(frozen=True)
class Config:
    """Redraw the trade-off figure and the report from records alone."""

    runs: Path = Path("runs/tradeoff")
    """Folder of the records."""
    out: Path | None = None
    """Folder of the outputs; that of the records by default."""
    title: str = "Model stealing: what a defense costs and what it saves"
    """Heading of the report."""


def run(config: Config) -> tuple[Path, ...]:
    """Draw everything; the paths of what was written."""
    import rich

    from pp_jax import _files, plots, records, report

    cells = records.load_all(config.runs, kind="tradeoff")
    if not cells:
        raise ValueError(
            f"runs is {config.runs}: must be a folder with trade-off records; make some with "
            "`python experiments/tradeoff.py`"
        )
    out = config.out or config.runs
    rich.print(report.table(cells))
    figure = plots.save(plots.tradeoff(cells), out / "tradeoff.png")
    text = _files.write_bytes(out / "tradeoff.md", report.markdown(cells).encode())
    return figure, report.write(out / "report.html", cells, title=config.title), text


def main() -> None:
    """Command line."""
    try:
        paths = run(tyro.cli(Config, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
