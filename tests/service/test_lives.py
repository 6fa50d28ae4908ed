"""Restarts, many accounts, and stores that fail: what is remembered and charged stays, and nobody is taken for new."""

import json
import logging
import threading
import time

import numpy as np

import servers
from pp_jax import Top1, chain
from pp_jax.defenses import RandomNoise
from pp_jax.detection import Blocked
from pp_jax.service.ledger import Limits, SQLiteLedger, StoreError


def banded():
    """Pass, perturb at random, block."""
    return servers.policy(chain(), Top1(), Blocked(), thresholds=(0.2, 0.7))


def test_after_a_restart_memories_budgets_and_bytes_are_the_same(tmp_path):
    served = servers.policy(RandomNoise(0.5), Blocked(), thresholds=(0.7,))
    pictures = servers.images(6)
    seen = []
    for _ in range(2):
        with servers.running(tmp_path, served) as server:
            if not seen:
                server.ask(servers.alike(8), "bob")
            seen.append(
                [
                    server.ask(pictures).content,
                    server.ask(pictures, "bob").status_code,
                    server.parts.ledger.spent("bob"),
                ]
            )
        assert server.parts.engine.state("alice").answered.sum() == 6 * len(seen)
    assert seen[0] == seen[1]
    assert seen[0][1:] == [403, 8]


def test_another_service_with_the_same_secret_gives_the_same_bytes(tmp_path):
    served = servers.policy(RandomNoise(0.5))
    pictures, found = servers.images(16), []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with servers.running(tmp_path / name, served, sizes=(4, 16) if name == "one" else (4,)) as server:
            if name == "two":  # other batches, other neighbours
                parts = [server.ask(pictures[i : i + 3], "bob").json()["predictions"] for i in range(0, 16, 3)]
                found.append([row for part in parts for row in part])
            else:
                found.append(server.ask(pictures).json()["predictions"])
    assert found[0] == found[1]


def test_accounts_beyond_the_bound_wait_in_the_ledger_and_come_back(tmp_path):
    with servers.running(tmp_path, banded(), accounts=2) as server:
        server.ask(servers.alike(8), "bob")
        for name in ("alice", "carol", "dave"):
            assert server.ask(servers.images(4), name).status_code == 200
        server.service.accounts.flush()
        server.service.accounts.forget()
        assert set(server.parts.engine.accounts) == {"carol", "dave"}
        assert server.ask(servers.images(1), "bob").status_code == 403
        server.ask(servers.images(4, 4), "alice")
        assert server.parts.engine.state("alice").answered.sum() == 8


def test_many_clients_at_once_spend_the_budget_to_the_image(tmp_path):
    codes = []
    with servers.running(tmp_path, limits=Limits(total=50, everybody=120)) as server:

        def ask(name):
            for _ in range(8):
                codes.append(server.ask(servers.images(3), name).status_code)

        for name in servers.NAMES:
            server.client(name)
        threads = [threading.Thread(target=ask, args=(name,)) for name in servers.NAMES for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spent = [server.parts.ledger.spent(name) for name in servers.NAMES]
    assert set(codes) == {200, 429}
    assert sum(spent) == 3 * codes.count(200) == 120
    assert max(spent) <= 50


class Broken(SQLiteLedger):
    """A ledger that fails as long as it is told to."""

    fails: tuple[str, ...] = ()

    def _maybe(self, what):
        if what in self.fails:
            raise StoreError("the store failed")

    def charge(self, name, images, limits):
        """Charge, or fail."""
        self._maybe("charge")
        return super().charge(name, images, limits)

    def refund(self, charged):
        """Give back, or fail."""
        self._maybe("refund")
        super().refund(charged)

    def keep(self, states):
        """Keep, or fail."""
        self._maybe("keep")
        super().keep(states)

    def kept(self, name):
        """Tell, or fail."""
        self._maybe("kept")
        return super().kept(name)


def test_a_store_that_fails_is_a_503_and_comes_back(tmp_path, caplog, monkeypatch):
    ledger = Broken(tmp_path / "l.sqlite")
    with servers.running(tmp_path, banded(), ledger=ledger) as server:
        server.ask(servers.alike(8), "bob")
    ledger = Broken(tmp_path / "l.sqlite")
    with servers.running(tmp_path, banded(), ledger=ledger) as server, caplog.at_level(logging.CRITICAL):
        ledger.fails = ("kept",)
        found = server.ask(servers.images(1), "bob")
        assert (found.status_code, found.headers["retry-after"]) == (503, "5")
        ledger.fails = ()
        # Not taken for a new account in between.
        assert server.ask(servers.images(1), "bob").status_code == 403
        monkeypatch.setattr(ledger, "spent", lambda name: ledger._maybe("charge") or 0)
        ledger.fails = ("charge",)
        assert server.client("owner").get("/status").status_code == 503
        monkeypatch.undo()
        assert server.ask(servers.images(1)).status_code == 503
        ledger.fails = ("keep",)
        assert server.ask(servers.alike(8), "carol").status_code == 200
        server.service.accounts.flush()
        ledger.fails = ()
        server.service.accounts.flush()
        assert ledger.kept("carol") is not None
        ledger.fails = ("refund",)
        server.parts.engine.answer = lambda *_, **__: 1 / 0
        assert server.ask(servers.images(2)).status_code == 500
        assert ledger.spent("alice") == 2


def test_an_alert_log_on_a_full_disk_stops_the_log_alone(tmp_path):
    with servers.running(tmp_path, banded()) as server, open("/dev/full", "wb") as full:
        server.parts.alerts._file = full.fileno()
        assert server.ask(servers.alike(8)).status_code == 200
        assert server.parts.alerts.lost >= 1
        assert server.ask(servers.images(4), "bob").status_code == 200


def test_before_it_is_warm_it_lives_and_is_not_ready(tmp_path, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(servers.Engine, "warm", lambda self: gate.wait(20) and None)
    with servers.running(tmp_path, wait=False) as server:
        client = server.client()
        try:
            assert client.get("/v2/health/live").status_code == 200
            for path in ("/v2/health/ready", "/v2/models/stripes/ready", "/ping"):
                assert (client.get(path).status_code, client.get(path).json()) == (503, {"ready": False})
            assert client.get("/v1/models/stripes").json()["model_version_status"][0]["state"] == "LOADING"
            assert server.ask(servers.images(1)).status_code == 503
            assert server.parts.ledger.spent("alice") == 0
        finally:
            gate.set()
        deadline = time.monotonic() + 20
        while client.get("/v2/health/ready").status_code != 200:
            assert time.monotonic() < deadline
        assert server.ask(servers.images(1)).status_code == 200


def test_every_account_costs_the_same_time_in_the_program(tmp_path):
    """All actions are computed for every image: the batches of an account that passes and of one that is changed."""
    with servers.running(tmp_path, banded()) as server:
        server.ask(servers.images(4), "alice")
        engine, pixels = server.parts.engine, servers.images(16).astype(np.float32) / 255
        state = engine.state("alice")
        seconds = {0: [], 1: []}
        for turn in range(60):
            band = turn % 2
            engine.restore("x", state._replace(band=np.int32(band)))
            started = time.perf_counter()
            engine.answer(pixels, ["x"] * 16)
            seconds[band].append(time.perf_counter() - started)
        medians = [np.median(seconds[band]) for band in (0, 1)]
    assert abs(medians[0] - medians[1]) < 0.5 * max(medians)


def test_alerts_survive_a_restart_without_repeating(tmp_path):
    for _ in range(2):
        with servers.running(tmp_path, banded()) as server:
            server.ask(servers.alike(8), "bob")
    lines = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    assert [line["band"] for line in lines] == sorted({line["band"] for line in lines})


def test_a_clock_that_goes_back_frees_nothing(tmp_path):
    now = [10_000.0]
    ledger = SQLiteLedger(tmp_path / "l.sqlite", lambda: now[0])
    with servers.running(tmp_path, limits=Limits(rate=4, window_s=60), ledger=ledger) as server:
        assert server.ask(servers.images(4)).status_code == 200
        now[0] -= 5000
        assert server.ask(servers.images(1)).status_code == 429
        now[0] += 5060
        assert server.ask(servers.images(1)).status_code == 200
