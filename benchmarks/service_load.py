"""The defended prediction service under load: throughput and latency, as ratios within one run.

    python benchmarks/service_load.py                  # about two minutes on 2 idle cores
    python benchmarks/service_load.py --soak 600       # and ten minutes at 80 % of the highest rate

Compares the bare compiled victim at batch 64, the service without a defense, and the service with a perturbation, on a
network with random weights; 64 images a request, as binary tensors of FP32 and of UINT8, and as JSON. Client and server
share this machine's cores. The soak reads the server's memory every ten seconds, and compares what the ledger has
charged with the images that were answered. Writes `runs/service_load.json` and prints a table.
"""

import dataclasses
import http.client
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

IMAGES = 64
SHAPE = (28, 28, 1)


@dataclasses.dataclass(frozen=True)
class Config:
    """How long, and where."""

    seconds: float = 10.0
    """Of each measurement."""
    connections: int = 3
    """Of the client, each with one request at a time."""
    network: Literal["lenet", "vgg16_bn", "resnet18"] = "lenet"
    """The victim's; one that computes for longer hides more of what the service takes."""
    sizes: tuple[int, ...] = ()
    """Of the service's batches, its own by default; the first is the block that everything is computed in."""
    soak: float = 0.0
    """Seconds at 80 % of the highest rate, behind the rest."""
    out: Path = Path("runs/service_load.json")
    """Where the figures go."""


@dataclasses.dataclass(frozen=True)
class Running:
    """A service that was started for this.

    Attributes:
        process: that serves.
        port: where.
        folder: of its files.
        key: of the account that asks.
        trusted: of the defender.
    """

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    key: str
    trusted: str

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def resident(self) -> float:
        """MiB of memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def spent(self) -> int:
        """Images that the ledger has charged to the account."""
        from pp_jax.service.ledger import SQLiteLedger

        ledger = SQLiteLedger(self.folder / "ledger.sqlite")
        try:
            return ledger.spent("load")
        finally:
            ledger.close()


def weights(folder: Path, name: str) -> tuple[Path, Any, Any]:
    """A network with random weights as a file, the network, and its parameters."""
    import jax

    from pp_jax import checkpoints, models

    network = getattr(models, name)(10)
    params = network.init(jax.random.key(0), SHAPE)
    told = {"model": name, "num_classes": 10, "image_shape": list(SHAPE)}
    return checkpoints.save(folder / "victim.safetensors", params, metadata=told), network, params


def start(folder: Path, path: Path, *options: str) -> Running:
    """Start a service, and wait until it is ready."""
    from pp_jax.service.keys import Principal, add

    key, trusted = (
        add(folder / "keys.toml", Principal("load")),
        add(folder / "keys.toml", Principal("me", trusted=True)),
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--model.weights", str(path), "--folder", str(folder), "--port", str(port), *options]
    log = (folder / "log").open("wb")
    process = subprocess.Popen([sys.executable, "-m", "pp_jax.service", "serve", *words], stdout=log, stderr=log)
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit((folder / "log").read_text())
        try:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            client.request("GET", "/v2/health/ready")
            if client.getresponse().status == 200:
                return Running(process, port, folder, key, trusted)
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("the service did not become ready in a minute")


def load(
    running: Running, body: bytes, headers: dict[str, str], *, seconds: float, connections: int, rate: float = 0.0
) -> dict[str, float]:
    """Requests of so many connections for so long, as fast as they are answered or at a rate; images/s and latency."""
    latencies: list[float] = []
    failed, begun = [], time.perf_counter()
    headers = {**headers, "Authorization": f"Bearer {running.key}"}

    def one(offset: float) -> None:
        client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
        due = begun + offset
        while (now := time.perf_counter()) < begun + seconds:
            if rate:
                time.sleep(max(0.0, due - now))
                due = max(due + connections / rate, time.perf_counter() - 1.0)
            sent = time.perf_counter()
            client.request("POST", "/v2/models/model/infer", body, headers)
            response = client.getresponse()
            response.read()
            if response.status != 200:
                failed.append(response.status)
            latencies.append(time.perf_counter() - sent)

    threads = [threading.Thread(target=one, args=(i / max(rate, 1.0),)) for i in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = time.perf_counter() - begun
    return {
        "images_per_s": IMAGES * len(latencies) / passed,
        "p50_ms": 1000 * float(np.quantile(latencies, 0.5)),
        "p99_ms": 1000 * float(np.quantile(latencies, 0.99)),
        "requests": len(latencies),
        "failed": len(failed),
    }


def bare(network: Any, params: Any, seconds: float) -> float:
    """Images/s of the compiled victim alone, at batch 64, from host to host."""
    import jax

    victim = jax.jit(jax.vmap(lambda image: jax.nn.softmax(network(params, image))))
    images = np.random.default_rng(0).random((IMAGES, *SHAPE), np.float32)
    np.asarray(victim(images))
    count, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        np.asarray(victim(images))
        count += 1
    return IMAGES * count / (time.perf_counter() - begun)


def run(config: Config) -> dict[str, Any]:
    """All measurements."""
    from pp_jax.serving.wire import Model, write_v2

    model = Model("model", SHAPE, 10)
    images = np.random.default_rng(1).random((IMAGES, *SHAPE), np.float32)
    requests = {
        "binary": write_v2(images, model),
        "UINT8": write_v2((255 * images).astype(np.uint8), model),
        "JSON": write_v2(images, model, binary=False),
    }
    found: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    found |= {"network": config.network, "sizes": list(config.sizes)}
    sizes = ("--batches.sizes", *map(str, config.sizes)) if config.sizes else ()
    defended = ("--policy.actions", "ReverseSigmoid(beta=0.6)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, network, params = weights(folder, config.network)
        found["bare victim"] = {"images_per_s": bare(network, params, config.seconds / 2)}
        services: dict[str, Callable[[], Running]] = {
            "undefended": lambda: start(_new(folder, "plain"), path, *sizes),
            "defended": lambda: start(_new(folder, "defended"), path, *defended, *sizes),
        }
        for what, begin in services.items():
            running = begin()
            try:
                for form, (body, headers) in requests.items():
                    load(running, body, headers, seconds=2, connections=config.connections)
                    cell = load(running, body, headers, seconds=config.seconds, connections=config.connections)
                    found[f"{what}, {form}"] = cell
                top = found[f"{what}, binary"]["images_per_s"] / IMAGES
                body, headers = requests["binary"]
                half = load(
                    running, body, headers, seconds=config.seconds, connections=config.connections, rate=top / 2
                )
                found[f"{what}, half load"] = half
                if config.soak and what == "defended":
                    found["soak"] = soak(running, body, headers, config, 0.8 * top)
            finally:
                running.stop()
    return found


def soak(running: Running, body: bytes, headers: dict[str, str], config: Config, rate: float) -> dict[str, float]:
    """Load at a rate for long: what `load` has, the server's memory on the way, and images charged and answered."""
    before, done = running.spent(), threading.Event()
    memory = [running.resident()]

    def watch() -> None:
        while not done.wait(10):
            memory.append(running.resident())

    watching = threading.Thread(target=watch)
    watching.start()
    cell = load(running, body, headers, seconds=config.soak, connections=config.connections, rate=rate)
    done.set()
    watching.join()
    return {
        **cell,
        "images_answered": IMAGES * (cell["requests"] - cell["failed"]),
        "images_charged": running.spent() - before,
        "MiB_begin": memory[0],
        "MiB_after_a_minute": memory[min(6, len(memory) - 1)],
        "MiB_least": min(memory),
        "MiB_most": max(memory),
        "MiB_end": memory[-1],
    }


def _new(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    found = run(config)
    base = found["bare victim"]["images_per_s"]
    print(f"bare victim, batch {IMAGES}: {base:.0f} images/s")
    for what, cell in found.items():
        if isinstance(cell, dict) and "p99_ms" in cell:
            rate, p50, p99 = cell["images_per_s"], cell["p50_ms"], cell["p99_ms"]
            print(f"{what:24} {rate:8.0f} images/s  {rate / base:5.2f} of bare  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms")
    if "soak" in found:
        print("soak", {name: round(value, 1) for name, value in found["soak"].items()})
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps(found, indent=1))
    print(config.out)


if __name__ == "__main__":
    main()
