"""The service among a hundred thousand connections that say nothing: who is still served, and at what price.

    python benchmarks/service_flood.py            # about a minute on 2 idle cores

A client with a key asks again and again, each time over a new connection: first alone, then while other processes open
connections on the loopback interface as fast as they can and leave them silent. Writes `runs/service_flood.json` and
prints a table.
"""

import collections
import dataclasses
import http.client
import json
import multiprocessing
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent))
import service_load


@dataclasses.dataclass(frozen=True)
class Config:
    """How many, and where."""

    total: int = 100_000
    """Connections that are opened."""
    processes: int = 4
    """That open them."""
    held: int = 4000
    """By each of these, at most; older ones are closed."""
    connections: int = 4096
    """The service's own bound."""
    out: Path = Path("runs/service_flood.json")
    """Where the figures go."""


def flood(port: int, source: str, total: int, held: int, opened: Any) -> None:
    """Open connections from an address of the loopback interface, and say nothing."""
    mine: collections.deque[socket.socket] = collections.deque()
    for _ in range(total):
        try:
            mine.append(socket.create_connection(("127.0.0.1", port), 10, (source, 0)))
        except OSError:
            time.sleep(0.01)
            continue
        with opened.get_lock():
            opened.value += 1
        if len(mine) > held:
            mine.popleft().close()


def ask(running: service_load.Running, body: bytes, headers: dict[str, str]) -> float:
    """Seconds of one request over a new connection; NaN if it is not answered."""
    begun = time.perf_counter()
    try:
        client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
        client.request("POST", "/v2/models/model/infer", body, {**headers, "Authorization": f"Bearer {running.key}"})
        response = client.getresponse()
        response.read()
        client.close()
    except (OSError, http.client.HTTPException):
        return float("nan")
    return time.perf_counter() - begun if response.status == 200 else float("nan")


def described(latencies: list[float]) -> dict[str, float]:
    """Requests, failures and latencies."""
    seconds = np.array(latencies)
    good = seconds[np.isfinite(seconds)]
    quantiles = {f"p{100 * q:.0f}_ms": 1000 * float(np.quantile(good, q)) for q in (0.5, 0.99)} if len(good) else {}
    return {"requests": len(seconds), "failed": int(np.isnan(seconds).sum()), **quantiles}


def run(config: Config) -> dict[str, Any]:
    """All measurements."""
    from pp_jax.serving.wire import Model, write_v2

    body, headers = write_v2(np.zeros((1, *service_load.SHAPE), np.float32), Model("model", service_load.SHAPE, 10))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, _, _ = service_load.weights(folder, "lenet")
        running = service_load.start(folder, path, "--connections", str(config.connections))
        try:
            found: dict[str, Any] = {"MiB_before": running.resident()}
            found["alone"] = described([ask(running, body, headers) for _ in range(300)])
            processes = multiprocessing.get_context("spawn")
            opened = processes.Value("q", 0)
            share = -(-config.total // config.processes)
            each = [(running.port, f"127.0.0.{2 + i}", share, config.held, opened) for i in range(config.processes)]
            floods = [processes.Process(target=flood, args=arguments) for arguments in each]
            over, most = threading.Event(), [0]

            def watch() -> None:
                while not over.wait(0.2):
                    most.append(len(list(Path(f"/proc/{running.process.pid}/fd").iterdir())))

            watching = threading.Thread(target=watch)
            watching.start()
            begun = time.perf_counter()
            for process in floods:
                process.start()
            latencies = []
            while any(process.is_alive() for process in floods):
                latencies.append(ask(running, body, headers))
            found["flooded"] = described(latencies)
            found["seconds"] = time.perf_counter() - begun
            over.set()
            watching.join()
            found |= {"opened": opened.value, "files_open_at_most": max(most), "MiB_after": running.resident()}
            found["afterwards"] = described([ask(running, body, headers) for _ in range(300)])
        finally:
            running.stop()
    return found


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    found = run(config)
    for name in ("alone", "flooded", "afterwards"):
        cell = found[name]
        times = "  ".join(f"{q} {cell.get(f'{q}_ms', float('nan')):7.1f} ms" for q in ("p50", "p99"))
        print(f"{name:10} {cell['requests']:6} requests  {cell['failed']:4} failed  {times}")
    print(f"{found['opened']} connections opened in {found['seconds']:.0f} s")
    print(f"the service had at most {found['files_open_at_most']} files open, {found['MiB_before']:.0f} MiB before and")
    print(f"{found['MiB_after']:.0f} after")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps(found, indent=1))
    print(config.out)


if __name__ == "__main__":
    main()
