"""Cells spread over the machines of a Ray cluster: a cell per task, begun again where a worker dies."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cells.grid import Job
    from cells.machines import Machines
    from steal import Config


def spread(
    job: Job, cells: Sequence[Config], machines: Machines, describe: Callable[[Config], str]
) -> Iterator[tuple[Config, Any]]:
    """Cells and their records as they are finished, wherever that is.

    Every task computes one cell as this process would, and writes the record into the folder that all machines share.
    Ray begins a cell again whose worker died, up to the given number of retries; a cell that fails for good is told
    when all others are done, and the same command then computes it alone.

    Raises:
        ValueError: a cell failed, with what it said.
    """
    import ray

    cell_on = ray.remote(num_cpus=machines.cpus, num_gpus=machines.gpus, max_retries=machines.retries)
    task = cell_on(_cell)
    waiting = {task.remote(job, cell): cell for cell in cells}
    failed = {}
    while waiting:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        cell = waiting.pop(done)
        try:
            yield cell, ray.get(done)
        except ray.exceptions.RayTaskError as error:
            failed[cell] = str(error.cause)
        except ray.exceptions.RayError as error:
            failed[cell] = f"its worker died {machines.retries + 1} times ({type(error).__name__})"
    if failed:
        cell, reason = next(iter(failed.items()))
        raise ValueError(f"{len(failed)} of {len(cells)} cells failed, the first is {describe(cell)}: {reason}")


def connect(address: str) -> None:
    """Join the cluster; before JAX has threads, which the processes of a local one would be forked from.

    Raises:
        ValueError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError(f"ray is {address}: needs Ray, pip install 'pp-jax[ray]'") from error
    if ray.is_initialized():
        return
    # Workers import the scripts' siblings and, where it is not installed, this very package.
    path = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(path)}}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        reach(address)
        ray.init(address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError) as error:
        raise ValueError(f"ray is {address}: no cluster answers there ({error})") from error
    nodes = [node for node in ray.nodes() if node["Alive"]]
    print(f"Ray: {len(nodes)} machines, {ray.cluster_resources().get('CPU', 0):g} processors", file=sys.stderr)


def reach(address: str) -> None:
    """Refuse an address where nobody listens (`OSError`): Ray itself would try for many minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10).close()


def _cell(job: Job, cell: Config) -> Any:
    """The task: one cell, as one process of many on a folder computes it."""
    return job.once(cell, lambda share: None, wait=True)
