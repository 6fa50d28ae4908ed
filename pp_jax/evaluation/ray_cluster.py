"""A function mapped over the machines of a Ray cluster: an item per task, begun again where a worker dies."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pp_jax.evaluation.machines import Machines

T = TypeVar("T")


def mapped(
    function: Callable[[T], Any], items: Sequence[T], machines: Machines, describe: Callable[[T], str]
) -> Iterator[tuple[T, Any]]:
    """Items and what the function returns for them, as they are finished, wherever that is.

    Ray begins an item again whose worker died, up to the given number of retries; one that fails for good is reported
    when all others are done, and the same call then computes it alone.

    Args:
        function: of one item; it and the items must be picklable, and its work must be the same wherever it is done.
        items: what it is called with.
        machines: address, resources and retries.
        describe: an item in words.

    Raises:
        ValueError: Ray is not installed, no cluster answers, or an item failed, with what it said.
    """
    connect(str(machines.ray))
    import ray

    on_cluster = ray.remote(num_cpus=machines.cpus, num_gpus=machines.gpus, max_retries=machines.retries)
    shared, task = ray.put(function), on_cluster(_call)
    waiting = {task.remote(shared, item): item for item in items}
    failed: list[tuple[T, str]] = []
    while waiting:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        item = waiting.pop(done)
        try:
            yield item, ray.get(done)
        except ray.exceptions.RayTaskError as error:
            failed.append((item, str(error.cause)))
        except ray.exceptions.RayError as error:
            failed.append((item, f"its worker died {machines.retries + 1} times ({type(error).__name__})"))
    if failed:
        item, reason = failed[0]
        raise ValueError(f"{len(failed)} of {len(items)} runs failed, the first is {describe(item)}: {reason}")


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
    # Workers import what this process imports, installed or not.
    path = [*filter(None, sys.path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}}
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


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    """The task."""
    return function(item)
