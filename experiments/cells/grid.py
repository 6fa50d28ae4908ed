"""Many cells: each computed once, with progress, and found again by whoever asks next."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import steal
from cells import cluster, loading, tables
from cells.machines import Machines
from steal import Config
from thieves import theft
from thieves.theft import Progress

Hear = Callable[[Config, float], None]
"""Hears which share of a cell is done."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What is done in every cell.

    Attributes:
        folder: of the records, below the cells' own folder.
        title: what is done, for the progress bar.
        settings: what determines a cell's result, as its record has it.
        work: computes one cell, tells its progress, and writes its record.
        batched: whether `steal` may do several cells at once.
    """

    folder: str
    title: str
    settings: Callable[[Config], dict[str, Any]]
    work: Callable[[Config, Progress], None]
    batched: bool = False

    def find(self, cell: Config) -> Any:
        """The record of a cell, or None."""
        from pp_jax import records

        return records.find(cell.runs / self.folder, self.settings(cell))

    def once(self, cell: Config, progress: Progress, *, wait: bool) -> Any:
        """The record of a cell, computed here or by another process; None if that is at it and is not waited for."""
        from pp_jax import records

        folder, settings = cell.runs / self.folder, self.settings(cell)
        return records.once(folder, settings, lambda: self.work(cell, progress), wait=wait)


def run(cells: Sequence[Config], folder: str, machines: Machines | None = None) -> dict[Config, Any]:
    """Steal in every cell that is missing; the records of all, in the order of the cells."""

    def work(cell: Config, progress: Progress) -> None:
        steal.compute(cell, folder=folder, progress=progress)

    return compute(cells, Job(folder, "stealing", Config.settings, work, batched=True), machines)


def compute(cells: Sequence[Config], job: Job, machines: Machines | None = None) -> dict[Config, Any]:
    """Compute every cell that is missing; the records of all, in the order of the cells.

    All cells are checked before the first is computed. Killed, the same call goes on from the finished cells; several
    processes on one folder share the cells between them.

    Args:
        cells: configurations that share their folder of results.
        job: what is done in each.
        machines: on what; this process, as its hardware is best used, by default.
    """
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    machines = machines or Machines()
    found = {cell: job.find(cell) for cell in cells}
    missing = [cell for cell, record in found.items() if record is None]
    if not missing:
        return found
    if machines.ray is not None:
        cluster.connect(machines.ray)
    for cell in missing:
        steal.check(cell, folder=job.folder)
    for cell in {_shared(cell): cell for cell in missing}.values():
        loading.prepare(cell)
    done = dict.fromkeys(missing, 0.0)
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn()) as bars:
        bar = bars.add_task(job.title, total=len(missing))

        def advance(cell: Config, share: float) -> None:
            bars.advance(bar, max(0.0, share - done[cell]))
            done[cell] = max(done[cell], share)

        def hear(cell: Config, share: float) -> None:
            bars.update(bar, description=describe(cell))
            advance(cell, min(share, 0.99))

        for cell, record in _ways(job, missing, machines, hear):
            found[cell] = record
            advance(cell, 1.0)
        bars.update(bar, description=job.title, completed=len(missing))
    return found


def _shared(cell: Config) -> tuple[Any, ...]:
    """What many cells have in common, to be made ready before the first of them."""
    return cell.victim, cell.attack.source(), cell.attack.warm_start, cell.defense.needs()


def _ways(job: Job, cells: Sequence[Config], machines: Machines, hear: Hear) -> Iterator[tuple[Config, Any]]:
    """Cells and their records as they are finished."""
    if machines.ray is not None:
        return cluster.spread(job, cells, machines, describe)
    if not (job.batched and machines.batches()):
        return in_turn(job, cells, hear)
    ready = sorted(filter(theft.batchable, cells), key=_program)
    groups = [list(group) for _, group in itertools.groupby(ready, _program)]
    others = [cell for cell in cells if not theft.batchable(cell)]
    return itertools.chain(*(at_once(job, group, machines, hear) for group in groups), in_turn(job, others, hear))


def _program(cell: Config) -> str:
    """What cells must share to be computed at once: all but defense, surrogate and seed."""
    return repr((cell.victim, cell.attack, cell.data_dir))


def in_turn(job: Job, cells: Sequence[Config], hear: Hear) -> Iterator[tuple[Config, Any]]:
    """One cell after another; what other processes are at comes last and is waited for."""
    busy = []
    for cell in cells:
        if (record := job.once(cell, functools.partial(hear, cell), wait=False)) is None:
            busy.append(cell)
        else:
            yield cell, record
    for cell in busy:
        yield cell, job.once(cell, functools.partial(hear, cell), wait=True)


def at_once(job: Job, cells: Sequence[Config], machines: Machines, hear: Hear) -> Iterator[tuple[Config, Any]]:
    """Thefts of one attack on one victim as one program, but for those that other processes are at."""
    from pp_jax import records

    with contextlib.ExitStack() as claims:
        mine = [
            cell
            for cell in cells
            if claims.enter_context(records.claim(cell.runs / job.folder, job.settings(cell))) and not job.find(cell)
        ]

        def share(done: float) -> None:
            for cell in mine:
                hear(cell, done)

        started = time.perf_counter()
        scenes = [theft.scene(cell) for cell in mine]
        stolen = theft.together(mine, scenes, machines, share) if mine else ()
        for cell, at, taken in zip(mine, scenes, stolen, strict=True):
            steal.conclude(cell, at, taken, folder=job.folder, started=started)
            yield cell, job.find(cell)
    yield from in_turn(job, [cell for cell in cells if cell not in mine], hear)


def describe(cell: Config) -> str:
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
