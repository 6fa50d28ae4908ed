"""The service with a tiny victim, on a loopback port, in a thread of this process."""

import contextlib
import socket
import threading
import time

import httpx
import jax
import jax.numpy as jnp
import numpy as np
import uvicorn

import smallworld
from pp_jax import chain, detection
from pp_jax.detection import Policy
from pp_jax.service.answering import Parts
from pp_jax.service.app import application
from pp_jax.service.assembly import Nothing, _Look
from pp_jax.service.engine import Engine
from pp_jax.service.keys import Keys, Principal, add
from pp_jax.service.ledger import Charged, Limits, SQLiteLedger
from pp_jax.service.patience import patient
from pp_jax.service.telemetry import Lines
from pp_jax.serving.wire import Model

KEY = jax.random.key(3)
MODEL = Model("stripes", (8, 8, 1), 4, most=64)
NAMES = ("alice", "bob", "carol", "dave", "erin")


def policy(*actions, thresholds=(), window=4, **options):
    """A policy over the tiny victim: how unlike the even mixture the labels of the last few queries are."""
    victim = smallworld.victim()
    watcher = detection.LabelMMD(jnp.full(4, 0.25), window=window) if thresholds else Nothing()
    return Policy(watcher, thresholds, actions or (chain(),), victim.network.features, victim.params, **options)


def images(count, start=0):
    """Test images, (count, 8, 8, 1) uint8."""
    return smallworld.test_images().images[start : start + count]


def alike(count, label=2):
    """Images that the victim takes for one class, which the watcher thinks unlikely, (count, 8, 8, 1) uint8."""
    pictures = smallworld.test_images().images
    seen = detection.observe(smallworld.network(), smallworld.victim().params, pictures)
    return np.resize(pictures[np.argmax(seen.probs, axis=1) == label], (count, 8, 8, 1))


def keys(folder):
    """A keys file with every name in it, and a trusted `owner`; the keys by name. The same each time."""
    path = folder / "keys.toml"
    found = folder / "plain.txt"
    if not path.exists():
        made = {name: add(path, Principal(name)) for name in NAMES} | {"owner": add(path, Principal("owner", True))}
        found.write_text("\n".join(f"{name} {key}" for name, key in made.items()))
    return dict(line.split() for line in found.read_text().splitlines())


def parts(folder, served=None, limits=None, *, audit=False, behind=None, sizes=(4, 16), ledger=None, **options):
    """The parts of a service; `behind` is an upstream in place of the victim."""
    keys(folder)
    victim, served = smallworld.victim(), served or policy()
    look = None if behind is not None else _Look(victim.network)
    return Parts(
        options.pop("model", MODEL), Engine(look, victim.params, served, KEY, (8, 8, 1), 4, sizes),
        Keys(folder / "keys.toml"), ledger or SQLiteLedger(folder / "ledger.sqlite"), limits or Limits(), b"secret",
        Lines(folder / "alerts.jsonl"), Lines(folder / "audit.jsonl") if audit else None, behind,
        detector="label_mmd", **options,
    )  # fmt: skip


class Running:
    """A service that answers: its address, parts, keys, and a client for each account."""

    def __init__(self, folder, made, server, port):
        self.folder, self.parts, self.server, self.port = folder, made, server, port
        self.url, self.keys = f"http://127.0.0.1:{port}", keys(folder)
        self.service = server.config.app.state.service
        self._clients = {}

    def client(self, name="alice"):
        """The HTTP client with a name's key; without any for None."""
        if name not in self._clients:
            given = {"Authorization": f"Bearer {self.keys[name]}"} if name else {}
            self._clients[name] = httpx.Client(base_url=self.url, headers=given, trust_env=False, timeout=20)
        return self._clients[name]

    def ask(self, pictures, name="alice", **headers):
        """Query images over the v1 protocol; the HTTP response."""
        content = {"instances": (np.asarray(pictures) / 255).tolist()}
        return self.client(name).post("/v1/models/stripes:predict", json=content, headers=headers)

    def close(self):
        """Close the clients."""
        for client in self._clients.values():
            client.close()


@contextlib.contextmanager
def serving(app, **options):
    """An ASGI application on a loopback port; server and port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    fixed = {"log_config": None, "access_log": False, "server_header": False, "timeout_graceful_shutdown": 2}
    server = uvicorn.Server(uvicorn.Config(app, **{**fixed, **options}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextlib.contextmanager
def running(folder, served=None, limits=None, *, wait=True, slow=None, connections=None, **options):
    """The service; it is ready, if `wait`."""
    made = parts(folder, served, limits, **options)
    kind = patient(**(slow or {}), most=connections)
    bound = None if connections is None else connections + 1
    with serving(application(made), http=kind, limit_concurrency=bound) as (server, port):
        found = Running(folder, made, server, port)
        deadline = time.monotonic() + 60
        while wait and not found.service.ready:
            assert not found.service.failure
            assert time.monotonic() < deadline
            time.sleep(0.01)
        try:
            yield found
        finally:
            found.close()


def granted_at_once(ledgers, name, *, images, limits):
    """How many of twenty charges a thread are granted, two threads a ledger at the same time."""
    granted = []

    def spend(ledger):
        for _ in range(20):
            granted.append(isinstance(ledger.charge(name, images, limits), Charged))

    threads = [threading.Thread(target=spend, args=(ledger,)) for ledger in ledgers for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(granted)
