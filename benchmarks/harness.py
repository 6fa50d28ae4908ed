"""Timing of alternatives side by side, and the row of a benchmark table.

Alternatives are run by turns in one process, so that whatever else the machine does falls on all of them alike; ratios
are taken within a turn.
"""

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]

_PACKAGES = ("pp-jax", "jax", "jaxlib", "flax", "numpy", "torch")


@dataclasses.dataclass(frozen=True)
class Times:
    """What every turn took: entries of the same turn belong together.

    Attributes:
        wall: seconds that passed, by alternative.
        cpu: seconds of processor time, all threads together; other work on the machine does not count here.
    """

    wall: Mapping[str, Sequence[float]]
    cpu: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """Median seconds."""
        return statistics.median(self.wall[name])

    def minimum(self, name: str) -> float:
        """Least seconds: what the work takes when nothing disturbs it."""
        return min(self.wall[name])

    def ratio(self, name: str, base: str) -> float:
        """Median over turns of t(name) / t(base)."""
        return _ratio(self.wall, name, base)

    def overhead(self, name: str, base: str) -> float:
        """Median over turns of (t(name) − t(base)) / t(base)."""
        return self.ratio(name, base) - 1

    def excess(self, name: str, base: str) -> float:
        """Median over turns of t(name) − t(base), in seconds."""
        return statistics.median(a - b for a, b in zip(self.wall[name], self.wall[base], strict=True))

    def cpu_ratio(self, name: str, base: str) -> float:
        """Median over turns of the ratio of processor times."""
        return _ratio(self.cpu, name, base)

    def milliseconds(self, name: str, *, per: int = 1) -> dict[str, float]:
        """Median and least milliseconds, divided by the number of queries in a call."""
        return {"median_ms": 1e3 * self.median(name) / per, "minimum_ms": 1e3 * self.minimum(name) / per}


def _ratio(seconds: Mapping[str, Sequence[float]], name: str, base: str) -> float:
    """Median of the ratios within a turn."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[base], strict=True))


def paired(functions: Mapping[str, Callable[[], Any]], *, repeats: int, warmup: int = 1) -> Times:
    """Time alternatives by turns.

    Args:
        functions: what to time, by name; JAX results are waited for.
        repeats: turns, at least 1. Their order alternates: who follows whom in the caches must not matter.
        warmup: turns before them, for compilation and caches.

    Returns:
        The times.

    Raises:
        ValueError: for fewer than one repeat.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    names = list(functions)
    for name in names * warmup:
        _seconds(functions[name])
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(repeats):
        for name in names[:: 1 if turn % 2 == 0 else -1]:
            taken[name].append(_seconds(functions[name]))
    return Times(*({name: [pair[i] for pair in taken[name]] for name in names} for i in (0, 1)))


def _seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor seconds of one call, until its result is there."""
    import jax

    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(function())
    return time.perf_counter() - wall, time.process_time() - cpu


def agree(name: str, ours: Any, theirs: Any) -> None:
    """Two sides that compute different things are not worth timing.

    Raises:
        AssertionError: naming the comparison.
    """
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(np.abs(theirs).max()), err_msg=name)


def compared(
    name: str, ours: Callable[[], Any], theirs: Callable[[], Any], bound: float, *, repeats: int, per: int = 1
) -> Row:
    """A row whose ratio is our time over theirs, taken by turns.

    Args:
        name: what is compared.
        ours: our side.
        theirs: the other side.
        bound: the ratio that must not be exceeded.
        repeats: turns.
        per: how often the work is done in a call.
    """
    times = paired({"ours": ours, "theirs": theirs}, repeats=repeats)
    details = {side: times.milliseconds(side, per=per) for side in times.wall} | {"repeats": repeats}
    return row(name, times.ratio("ours", "theirs"), bound, details=details)


def row(name: str, ratio: float, bound: float, *, sense: str = "<=", details: Mapping[str, Any]) -> Row:
    """One line of the table.

    Args:
        name: what was measured.
        ratio: the figure.
        bound: what it must reach; infinity, from below, where nothing is asked of it.
        sense: "<=" if the ratio must not exceed the bound, ">=" if it must reach it.
        details: anything else that is worth keeping.

    Raises:
        ValueError: for another sense.
    """
    if sense not in ("<=", ">="):
        raise ValueError(f"sense must be '<=' or '>=', not {sense!r}")
    holds = ratio <= bound if sense == "<=" else ratio >= bound
    return {
        "name": name,
        "ratio": float(ratio),
        "bound": f"{sense} {bound:g}",
        "holds": bool(holds),
        "details": dict(details),
    }


def threads() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def torch_reference() -> Any:
    """The module of the PyTorch side, which may use every core.

    Raises:
        SystemExit: where PyTorch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise SystemExit("This benchmark needs PyTorch: pip install 'pp-jax[bench]'")
    module = importlib.import_module("torch_reference")
    module.torch.set_num_threads(threads())
    return module


def environment() -> dict[str, Any]:
    """Versions, processor, usable cores and the load of the machine at the moment."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"cpu": _cpu_model(), "cores": os.cpu_count(), "system": platform.system()},
        "threads": threads(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _versions() -> dict[str, str]:
    """Versions of the packages that are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def table(rows: Sequence[Row]) -> str:
    """The rows as plain text."""
    width = max((len(entry["name"]) for entry in rows), default=4)
    lines = [f"{'name':<{width}}  {'ratio':>8}  {'bound':>8}  holds"]
    for entry in rows:
        verdict = "yes" if entry["holds"] else "NO"
        lines.append(f"{entry['name']:<{width}}  {entry['ratio']:>8.3g}  {entry['bound']:>8}  {verdict}")
    return "\n".join(lines)


def report(rows: Sequence[Row]) -> None:
    """Print the table, what is behind every row, and where it was measured."""
    print(table(rows))
    for entry in rows:
        print(entry["name"], entry["details"])
    print(environment())
