"""Real peers: each in an environment of its own, made from its requirements once, and in a process of its own."""

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_digits

from pp_jax.service.keys import Principal, add
from pp_jax.service.ledger import SQLiteLedger
from pp_jax.service.redis_ledger import RedisLedger

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "tests" / "peers"


def environment(name: str, *, below: tuple[int, int] = (3, 14)) -> Path:
    """The Python of a peer's environment, `.venv-peers-NAME`; skips the test, with the reason, where there is none.

    Args:
        name: of the peer; what it needs is in tests/peers/NAME.txt.
        below: the first version of Python that the peer does not run on.
    """
    folder, wanted = ROOT / f".venv-peers-{name}", (PEERS / f"{name}.txt").read_text()
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    mark = folder / "made-by-make"
    if folder.exists() and not mark.exists():
        pytest.skip(f"{folder.name} was not made by these tests: move it away")
    made = subprocess.run([_interpreter(name, below), "-m", "venv", "--clear", folder], capture_output=True, text=True)
    if made.returncode == 0:
        mark.touch()
        pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "-q", "-r", PEERS / f"{name}.txt"]
        made = subprocess.run(pip, capture_output=True, text=True)
    if made.returncode:
        errors = [line for line in made.stderr.splitlines() if "error" in line.lower()]
        pytest.skip(f"{name} cannot be installed: {(errors or made.stderr.splitlines() or ['no reason given'])[0]}")
    stamp.write_text(wanted)
    return python


def _interpreter(name: str, below: tuple[int, int]) -> str:
    """A Python that the peer runs on: this one, or an older one on the path."""
    if sys.version_info[:2] < below:
        return sys.executable
    for minor in range(below[1] - 1, 10, -1):
        found = shutil.which(f"python3.{minor}")
        if found and subprocess.run([found, "-V"], capture_output=True).returncode == 0:
            return found
    pytest.skip(f"{name} needs a Python below {below[0]}.{below[1]}, and none is on the path")


@contextlib.contextmanager
def running(command, log: Path, url: str, *, seconds: float = 180, key: str = "", **options):
    """A process that answers at an address, until the end of the block; what it prints is in the log."""
    with log.open("wb") as file:
        process = subprocess.Popen([*map(str, command)], stdout=file, stderr=file, **options)
    try:
        deadline = time.monotonic() + seconds
        while not _answers(url, key):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"{url} does not answer\n{log.read_text()[-3000:]}"
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def _answers(url: str, key: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, headers=bearer(key), timeout=5).status_code == 200
    return False


def port() -> int:
    """One that is free."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def bearer(key: str) -> dict[str, str]:
    """The header with a key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


@dataclasses.dataclass(frozen=True)
class Service:
    """A service that runs, and what its owner knows."""

    url: str
    keys: dict[str, str]
    folder: Path
    store: str = ""

    def post(self, path: str, who: str = "alice", **options) -> httpx.Response:
        """Send a request with an account's key."""
        headers = bearer(self.keys[who]) | options.pop("headers", {})
        return httpx.post(self.url + path, headers=headers, timeout=60, **options)

    def ask(self, images: np.ndarray, who: str = "alice") -> np.ndarray:
        """Responses to images by v1."""
        response = self.post("/v1/models/model:predict", who, json={"instances": images.tolist()})
        assert response.status_code == 200, response.text
        return np.array(response.json()["predictions"], np.float32)

    def spent(self, who: str = "alice") -> int:
        """Images that an account was charged."""
        ledger = RedisLedger(self.store) if self.store else SQLiteLedger(self.folder / "ledger.sqlite")
        try:
            return ledger.spent(who)
        finally:
            ledger.close()


def keys(folder: Path, *principals: Principal) -> dict[str, str]:
    """A keys file for these accounts, and the keys."""
    return {principal.name: add(folder / "keys.toml", principal) for principal in principals}


ACCOUNTS = (Principal("alice"), Principal("owner", trusted=True))


@contextlib.contextmanager
def service(folder: Path, *options, accounts=ACCOUNTS):
    """The service as `python -m pp_jax.service serve` runs it."""
    made, number = keys(folder, *accounts), port()
    command = [sys.executable, "-m", "pp_jax.service", "serve", "--folder", folder, "--port", number]
    command += ["--batches.sizes", 16, 64, *options]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    url = f"http://127.0.0.1:{number}"
    with running(command, folder / "service.log", f"{url}/v2/health/ready", env=environ, cwd=folder):
        yield Service(url, made, folder)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's handwritten digits: 1,797 images (8, 8, 1) in [0, 1] that UINT8 holds too, and their labels."""
    found = load_digits()
    images = np.rint(found.images / 16 * 255).astype(np.uint8)[..., None]
    return images.astype(np.float32) / 255, found.target


def linear(path: Path) -> np.ndarray:
    """Weights (65, 10) of a least-squares classifier of the digits, for servers that know NumPy alone."""
    images, labels = digits()
    x = np.hstack([images.reshape(len(images), -1), np.ones((len(images), 1), np.float32)])
    weights = np.linalg.lstsq(x, 6 * np.eye(10)[labels], rcond=None)[0].astype(np.float32)
    np.save(path, weights)
    return weights


def posteriors(weights: np.ndarray, images: np.ndarray) -> np.ndarray:
    """What such a classifier answers."""
    x = np.hstack([images.reshape(len(images), -1), np.ones((len(images), 1), np.float32)])
    scores = np.exp(x @ weights)
    return scores / scores.sum(axis=1, keepdims=True)
