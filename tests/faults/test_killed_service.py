"""`kill -9` and full disks under load: no image that was answered is ever given back, none is charged twice."""

import os
import random
import resource
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import jax
import pytest

from pp_jax import models
from pp_jax.results import checkpoints
from pp_jax.service.keys import Principal, add
from pp_jax.service.ledger import SQLiteLedger

KILLS, CLIENTS, IMAGES = 20, 4, 3


class Child:
    """A service in a process of its own."""

    def __init__(self, folder, *, before=""):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        weights = folder / "victim.safetensors"
        if not weights.exists():
            params = models.mlp(4).init(jax.random.key(0), (4, 4, 1))
            told = {"model": "mlp", "num_classes": 4, "image_shape": [4, 4, 1]}
            checkpoints.save(weights, params, metadata=told)
            (folder / "key").write_text(add(folder / "run/keys.toml", Principal("alice")))
        self.key = (folder / "key").read_text()
        words = ["serve", "--model.weights", weights, "--folder", folder / "run", "--port", self.port]
        words += ["--batches.sizes", 4, "--batches.wait-ms", 0]
        command = f"{before}exec {shlex.join([sys.executable, '-m', 'pp_jax.service', *map(str, words)])}"
        quick = {"JAX_COMPILATION_CACHE_DIR": folder / "compiled", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        self.process = subprocess.Popen(["bash", "-c", command], stderr=subprocess.PIPE, env={**os.environ, **quick})
        deadline = time.monotonic() + 60
        while not self.ready():
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def ready(self):
        """Whether it answers."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/v2/health/ready", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def client(self):
        """A client with the key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, trust_env=False, timeout=20)

    def ask(self, client):
        """Query a few images."""
        return client.post("/invocations", json={"instances": [[[[0.5]] * 4] * 4] * IMAGES})

    def kill(self):
        """`kill -9`."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def spent(folder):
    """Images charged."""
    ledger = SQLiteLedger(folder / "run/ledger.sqlite")
    found = ledger.spent("alice")
    ledger.close()
    return found


@pytest.mark.slow
def test_killed_again_and_again_it_gives_back_nothing_and_charges_nothing_twice(tmp_path):
    rng, before, total = random.Random(0), 0, 0
    for _ in range(KILLS):
        child = Child(tmp_path)
        answered, sent, lock = [0], [0], threading.Lock()

        def load(child=child, answered=answered, sent=sent, lock=lock):
            with child.client() as client:
                while True:
                    with lock:
                        sent[0] += IMAGES
                    try:
                        status = child.ask(client).status_code
                    except httpx.HTTPError:
                        return
                    assert status == 200
                    with lock:
                        answered[0] += IMAGES

        threads = [threading.Thread(target=load) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0.05, 0.6))
        child.kill()
        for thread in threads:
            thread.join()
        charged = spent(tmp_path) - before
        assert answered[0] <= charged <= sent[0] <= answered[0] + CLIENTS * IMAGES
        before, total = before + charged, total + answered[0]
    print(f"{KILLS} kills, {total} images answered, {before} charged")
    assert total > 0


@pytest.mark.slow
def test_on_a_full_disk_it_refuses_lives_and_goes_on(tmp_path):
    Child(tmp_path).kill()
    child = Child(tmp_path, before="ulimit -S -f 60; ")
    codes = []
    with child.client() as client:
        for _ in range(400):
            codes.append(child.ask(client).status_code)
            if codes[-1] != 200:
                break
        assert codes[-1] == 503
        before = spent(tmp_path)
        assert child.ready()
        assert before == IMAGES * codes.count(200)
        resource.prlimit(child.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert child.ask(client).status_code == 200
    assert spent(tmp_path) == before + IMAGES
    child.kill()


@pytest.mark.slow
def test_stopped_by_a_signal_it_ends_well_and_another_may_start(tmp_path):
    child = Child(tmp_path)
    with child.client() as client:
        assert child.ask(client).status_code == 200
    child.process.send_signal(signal.SIGTERM)
    child.process.communicate(timeout=20)
    assert child.process.returncode in (0, -signal.SIGTERM)
    again = Child(tmp_path)
    words = ["serve", "--model.weights", tmp_path / "victim.safetensors", "--folder", tmp_path / "run", "--port", "0"]
    command = [sys.executable, "-m", "pp_jax.service", *map(str, words)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (second.returncode, second.stderr.count("\n")) == (2, 1)
    assert "another service runs in" in second.stderr
    again.kill()
