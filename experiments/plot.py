"""Draw the trade-off figure, the report and the table again, from records alone.

    python -m experiments.plot --runs runs/tradeoff

takes about 5 seconds for a few dozen records and writes `tradeoff.png` (1200 pixels wide), `report.html`
(self-contained) and the table as `tradeoff.md` into the folder of the records, after a table in the terminal. The
numbers are those of the records: nothing is computed again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from experiments import common
from pp_jax._command import command

OUTPUTS = ("tradeoff.png", "tradeoff.md", "report.html")


@dataclasses.dataclass(frozen=True)
class Config:
    """Which records, and where to."""

    runs: common.UserPath = Path("runs/tradeoff")
    """Folder of the records."""
    out: common.UserPath | None = None
    """Folder of the outputs; that of the records by default."""
    title: str = "Model stealing: what a defense costs and what it saves"
    """Heading of the report."""


def check(config: Config) -> None:
    """Refuse outputs that others wrote, before anything is computed."""
    from pp_jax import _files

    _files.check_replaceable(*((config.out or config.runs) / name for name in OUTPUTS))


def draw(config: Config) -> tuple[Path, ...]:
    """Show the table and write everything; the paths of what was written."""
    import rich

    from pp_jax import _files, plots, records, report

    check(config)
    found = records.load_all(config.runs, kind="tradeoff")
    if not found:
        raise ValueError(
            f"runs is {config.runs}: must be a folder with trade-off records; make some with "
            "`python -m experiments.tradeoff`"
        )
    out = config.out or config.runs
    rich.print(report.table(found))
    figure = plots.save(plots.tradeoff(found), out / OUTPUTS[0])
    text = _files.write_bytes(
        out / OUTPUTS[1], f"{report.markdown(found)}\n{_files.MARKDOWN}".encode(), mark=_files.MARKS[".md"]
    )
    return figure, report.write(out / OUTPUTS[2], found, title=config.title), text


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    with common.errors():
        paths = draw(config)
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
