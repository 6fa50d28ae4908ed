"""Time the jobs of a sweep by turns; as a script, the same query on one and on several devices.

    python benchmarks/scaling_measure.py 2 256     # 2 forced host devices, 256 images; a line of JSON

A CPU counts as several devices only from the start of a process: `on_devices` starts one.
"""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax

from harness import paired
from pp_jax import parallel
from scaling_stages import LENET, VGG_32, Case, Job, defended, sized

Row = dict[str, Any]
CLOCKS = ("wall", "cpu")


def measure(jobs: Sequence[Job], *, repeats: int, warmup: int = 1, at_least: float = 0.02) -> list[Row]:
    """Rows of times: the jobs by turns, quick ones several times a turn.

    Args:
        jobs: what is timed.
        repeats: turns, at least 1.
        warmup: turns before them.
        at_least: seconds that a job should take in every turn but the first, which finds out how long a call takes.

    Returns:
        For each job its stage, its size, and the seconds of a call in every turn, on the clock on the wall (`wall`) and
        of all processor cores together (`cpu`).
    """
    names = [str(number) for number in range(len(jobs))]
    calls = {name: job.call for name, job in zip(names, jobs, strict=True)}
    first = paired(calls, repeats=1, warmup=warmup)
    loops = {name: max(1, int(at_least / first.minimum(name))) for name in names}
    seconds = {clock: {name: list(getattr(first, clock)[name]) for name in names} for clock in CLOCKS}
    if repeats > 1:
        turns = {name: functools.partial(_again, calls[name], loops[name]) for name in names}
        times = paired(turns, repeats=repeats - 1, warmup=0)
        for clock in CLOCKS:
            for name, taken in getattr(times, clock).items():
                seconds[clock][name] += [each / loops[name] for each in taken]
    return [
        {"stage": job.stage, **dataclasses.asdict(job.size), **{clock: seconds[clock][name] for clock in CLOCKS}}
        for name, job in zip(names, jobs, strict=True)
    ]


def _again(call: Callable[[], Any], times: int) -> None:
    """Call so many times, each time until the result is there."""
    for _ in range(times):
        jax.block_until_ready(call())


def least(row: Row, clock: str) -> float:
    """The least seconds of a call: what the work takes when nothing disturbs it."""
    return min(row[clock])


def on_devices(devices: int, batch: int) -> list[Row]:
    """Rows of `shared` from a process that has so many devices."""
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, __file__, str(devices), str(batch)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def shared(devices: int, batch: int) -> list[Row]:
    """Whole queries on meshes of 1 to `devices` devices, by turns: LeNet, and for a batch of 64 or more VGG16-BN."""
    cases = [Case(LENET, 10, batch)] + ([Case(VGG_32, 100, batch // 8)] if batch >= 64 else [])
    return [
        row
        for case in cases
        for row in measure([_shared(case, number + 1) for number in range(devices)], repeats=7 if batch >= 64 else 1)
    ]


def _shared(case: Case, devices: int) -> Job:
    """A query whose images are spread over so many devices."""
    mesh = parallel.data_mesh(devices=jax.devices()[:devices])
    box = parallel.place(defended(case, mesh=mesh), mesh)
    (images,) = parallel.spread(mesh, case.images)
    return Job("MAD query", dataclasses.replace(sized(case), devices=devices), functools.partial(box, images))


if __name__ == "__main__":
    print(json.dumps(shared(int(sys.argv[1]), int(sys.argv[2]))))
