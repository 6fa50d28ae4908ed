"""Many cells: each computed once, with progress, and found again by whoever asks next."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import steal
import tables


def run(cells: Sequence[steal.Config], folder: str) -> dict[steal.Config, Any]:
    """Steal in every cell that is missing; the records of all, in the order of the cells.

    Args:
        cells: configurations that share their folder of results.
        folder: below it.
    """
    return compute(
        cells, folder, title="stealing", settings=steal.Config.settings,
        work=lambda cell, progress: steal.run(cell, folder=folder, progress=progress),
    )  # fmt: skip


def compute(
    cells: Sequence[steal.Config],
    folder: str,
    *,
    title: str,
    settings: Callable[[steal.Config], dict[str, Any]],
    work: Callable[[steal.Config, steal.Progress], Any],
) -> dict[steal.Config, Any]:
    """Compute every cell that is missing; the records of all, in the order of the cells.

    All cells are checked before the first is computed. Killed, the same call goes on from the finished cells.

    Args:
        cells: configurations that share their folder of results.
        folder: below it.
        title: what is done, for the progress bar.
        settings: what determines a cell's result, as its record has it.
        work: computes one cell, tells its progress, and returns its record.
    """
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    from pp_jax import records

    found = {cell: records.find(cell.runs / folder, settings(cell)) for cell in cells}
    missing = [cell for cell, record in found.items() if record is None]
    if not missing:
        return found
    for cell in missing:
        steal.check(cell, folder=folder)
    for cell in {(cell.victim, cell.attack.source(), cell.attack.warm_start): cell for cell in missing}.values():
        steal.prepare(cell)
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn()) as bars:
        bar = bars.add_task(title, total=len(missing))
        for number, cell in enumerate(missing):
            bars.update(bar, description=describe(cell), completed=number)

            def hear(share: float, number: int = number) -> None:
                bars.update(bar, completed=number + min(share, 0.99))

            found[cell] = work(cell, hear)
        bars.update(bar, description=title, completed=len(missing))
    return found


def describe(cell: steal.Config) -> str:
    """A cell in a few words."""
    name, *values = cell.defense.settings().values()
    words = [f"{value:g}" if isinstance(value, float | int) else str(value) for value in values]
    return f"{cell.victim.dataset}, {cell.attack.name}, {' '.join([name, *words])}, seed {cell.seed}"


def main(run: Callable[[], tables.Table], path: Path) -> None:
    """What the scripts whose result is a table have in common: run, show, write, and say what went wrong."""
    try:
        table = run()
        table.print()
        print(table.write(path))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from the finished cells")
