"""Many runs: each computed once, with progress, and found again by whoever asks next."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pp_jax.evaluation import runs, sweep
from pp_jax.evaluation.machines import Machines
from pp_jax.evaluation.setups import Run, Setup, deploy
from pp_jax.results import records
from pp_jax.training import Sets, bytes_each, fit_many
from pp_jax.training.losses import supervised_by

Hear = Callable[[Run, float], None]
"""Is told which share of a run is done."""


def compute(
    setup: Setup, wanted: Sequence[Run], folder: Path, *, machines: Machines, title: str = "attacking"
) -> dict[Run, Any]:
    """Compute every run that is missing; the records of all, in the order of the runs.

    Killed, the same call goes on from the finished runs; several processes on one folder share the runs between them.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    found = {run: _there(folder, run.config(setup)) for run in wanted}
    for record in found.values():
        if record is not None:  # its process may have been killed after the last write
            records.discard(record.path.with_suffix(".partial"))
    missing = [run for run, record in found.items() if record is None]
    if not missing:
        return found
    records.check_writable(folder)
    done = dict.fromkeys(missing, 0.0)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(title, total=len(missing))

        def advance(run: Run, share: float) -> None:
            bars.advance(bar, max(0.0, share - done[run]))
            done[run] = max(done[run], share)

        def hear(run: Run, share: float) -> None:
            bars.update(bar, description=run.text())
            advance(run, min(share, 0.99))

        for run, record in _computed(setup, missing, folder, machines, hear):
            found[run] = record
            advance(run, 1.0)
        bars.update(bar, description=title, completed=len(missing))
    return found


def _there(folder: Path, config: Mapping[str, Any]) -> Any:
    """A whole record, or None; a damaged one is reported by the process that redoes it, once."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, records.Damaged):
        return records.load(folder / f"{records.key(config)}.json")
    return None


def _computed(
    setup: Setup, missing: Sequence[Run], folder: Path, machines: Machines, hear: Hear
) -> Iterator[tuple[Run, Any]]:
    """Runs and their records as they are finished."""
    if machines.ray is not None:
        from pp_jax.evaluation import ray_cluster

        task = functools.partial(_once, setup, folder)
        yield from ray_cluster.mapped(task, missing, machines, Run.text)
        return
    if not machines.batches():
        yield from in_turn(setup, missing, folder, hear)
        return
    together = [run for run in missing if run.attacker.batches]
    for _, group in itertools.groupby(sorted(together, key=_program), _program):
        yield from at_once(setup, list(group), folder, machines, hear)
    yield from in_turn(setup, [run for run in missing if not run.attacker.batches], folder, hear)


def _once(setup: Setup, folder: Path, run: Run) -> Any:
    """One run, as one process of many on a folder computes it."""
    return records.once(folder, run.config(setup), lambda: runs.compute(setup, run, folder), wait=True)


def _program(run: Run) -> str:
    """What runs must share to be trained as one program: how much the recovery leaves to train on."""
    return run.attacker.name


def in_turn(setup: Setup, wanted: Sequence[Run], folder: Path, hear: Hear) -> Iterator[tuple[Run, Any]]:
    """One run after another; what other processes compute comes last and is waited for."""
    busy = []

    def once(run: Run, *, wait: bool) -> Any:
        def work() -> None:
            runs.compute(setup, run, folder, functools.partial(hear, run))

        return records.once(folder, run.config(setup), work, wait=wait)

    for run in wanted:
        if (record := once(run, wait=False)) is None:
            busy.append(run)
        else:
            yield run, record
    for run in busy:
        yield run, once(run, wait=True)


def at_once(
    setup: Setup, wanted: Sequence[Run], folder: Path, machines: Machines, hear: Hear
) -> Iterator[tuple[Run, Any]]:
    """Runs whose stolen models train as one program, except for those that other processes compute."""
    with contextlib.ExitStack() as claims:
        mine = [
            run
            for run in wanted
            if claims.enter_context(records.claim(folder, run.config(setup)))
            and records.find(folder, run.config(setup)) is None
        ]
        yield from _trained_together(setup, mine, folder, machines, hear)
    yield from in_turn(setup, [run for run in wanted if run not in mine], folder, hear)


def _trained_together(
    setup: Setup, mine: Sequence[Run], folder: Path, machines: Machines, hear: Hear
) -> Iterator[tuple[Run, Any]]:
    """Query and recover one after another, train those with equally many targets at once, judge one after another."""
    if not mine:
        return
    started = time.perf_counter()
    ready = []
    for run in mine:
        at = deploy(setup, run.entry, run.seed)
        stolen = runs.query(setup, at, run.attacker, lambda _: None)
        targets = runs.recover(setup, at, run.attacker, stolen)
        ready.append((run, at, stolen, targets))
        hear(run, 0.2)
    sizes = sorted({np.shape(targets.answers) for *_, targets in ready})
    for size in sizes:
        alike = [item for item in ready if np.shape(item[3].answers) == size]
        plan = sweep.plan(
            len(alike),
            lambda: bytes_each(setup.network, setup.pool.images, setup.classes, setup.recipe),
            way=machines.chosen(),
            memory=machines.memory_bytes(),
        )
        for first in range(0, len(alike), plan.at_once):
            part = alike[first : first + plan.at_once]
            clock = time.perf_counter()
            params = _fit_many(setup, part, hear)
            seconds = {"train_together_s": time.perf_counter() - clock, "trained_together": float(len(part))}
            for index, (run, at, stolen, _) in enumerate(part):
                own = jax.tree.map(lambda leaf, i=index: leaf[i], params)
                runs.write(setup, run, folder, at, stolen, setup.network, own, seconds, started)
                yield run, records.find(folder, run.config(setup))


def _fit_many(setup: Setup, part: Sequence[Any], hear: Hear) -> Any:
    """The parameters of several stolen models, every leaf with a leading axis."""
    images = np.concatenate([np.asarray(targets.images) for *_, targets in part])
    each = len(part[0][3].images)
    rows = np.arange(len(images)).reshape(len(part), each)
    start = setup.start
    many = None if start is None else jax.tree.map(lambda leaf: np.stack([leaf] * len(part)), start)

    def told(epoch: int) -> None:
        for run, *_ in part:
            hear(run, 0.2 + 0.8 * epoch / setup.recipe.epochs)

    keys = jax.numpy.stack([at.model_key for _, at, *_ in part])
    answers = [np.asarray(targets.answers) for *_, targets in part]
    targets, loss = np.stack(answers), supervised_by(np.concatenate(answers))
    return fit_many(
        keys, setup.network, Sets(images, rows, targets), setup.recipe, loss=loss, params=many, on_epoch=told
    )
