"""From options to a running server: parts, port, signals."""

import asyncio
import fcntl
import logging
import socket
from pathlib import Path
from typing import Any

from uvicorn import Config as UvicornConfig
from uvicorn import Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from pp_jax.service import assembly
from pp_jax.service.answering import Parts
from pp_jax.service.app import application
from pp_jax.service.config import Config
from pp_jax.service.engine import Engine
from pp_jax.service.keys import Keys
from pp_jax.service.ledger import Ledger, Limits, SQLiteLedger
from pp_jax.service.proxy import Upstream, UpstreamError
from pp_jax.service.telemetry import Lines
from pp_jax.serving.wire import Model

_LOG = logging.getLogger(__name__)


def serve(config: Config) -> None:
    """Serve until stopped by a signal.

    Raises:
        ValueError: for options that cannot be served.
        OSError: for a port or a folder that cannot be used.
    """
    listener = _listen(config)
    lock = _alone(config)
    parts = assemble(config)
    if parts.upstream is not None:
        asyncio.run(_check(parts.upstream))
        parts = assemble(config)
    app = application(parts)
    _LOG.info("serving %s on http://%s:%d, docs at /docs", parts.model.name, *listener.getsockname()[:2])
    kind = type("Patient", (_Patient,), {"header_s": config.header_s})
    options: dict[str, Any] = {"http": kind, "log_config": None, "access_log": False, "timeout_keep_alive": 30}
    settings = UvicornConfig(
        app, limit_concurrency=config.connections, timeout_graceful_shutdown=10, server_header=False, **options
    )
    Server(settings).run(sockets=[listener])
    lock.close()


def assemble(config: Config) -> Parts:
    """All parts of the application.

    Raises:
        ValueError: in one line, for whatever does not fit.
    """
    limits = config.limits
    keys = Keys(config.keys.expanduser() if config.keys else config.path("keys.toml"))
    served = assembly.victim(config)
    policy = assembly.policy(config, served)
    model = served.model
    engine = Engine(
        assembly.look(served), served.params, policy, assembly.key_of(assembly.secret_bytes(config, "defense")),
        model.image_shape, model.classes, config.batches.sizes,
    )  # fmt: skip
    upstream = None
    if config.model.upstream:
        names = config.model
        there = Model(
            names.upstream_model, model.image_shape, model.classes, names.upstream_input, names.upstream_output
        )
        upstream = Upstream(
            names.upstream, there, timeout_s=names.upstream_timeout_s, datatype=names.upstream_datatype,
            channels_first=names.upstream_channels_first,
        )  # fmt: skip
    return Parts(
        model,
        engine,
        keys,
        ledger(config),
        Limits(limits.total, limits.rate, limits.everybody, limits.everybody_rate, limits.window_s),
        assembly.secret_bytes(config, "challenges"),
        Lines(config.path("alerts.jsonl")),
        Lines(config.path("audit.jsonl")) if config.audit else None,
        upstream,
        config.batches.wait_ms / 1000,
        limits.waiting,
        config.body_s,
        config.policy.detector or "none",
    )


def ledger(config: Config) -> Ledger:
    """The ledger of the options."""
    if config.store.startswith(("redis://", "rediss://", "unix://")):
        from pp_jax.service.redis_ledger import RedisLedger

        return RedisLedger(config.store)
    return SQLiteLedger(Path(config.store).expanduser() if config.store else config.path("ledger.sqlite"))


class _Patient(H11Protocol):
    """uvicorn's HTTP, with a bound on how long a client may take for the headers of its first request."""

    header_s = 10.0

    def connection_made(self, transport: Any) -> None:
        """Start the clock."""
        super().connection_made(transport)
        self.loop.call_later(self.header_s, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def _listen(config: Config) -> socket.socket:
    """The socket, before anything long: a port that is taken is told at once."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        raise OSError(
            error.errno, f"cannot listen on {config.host}:{config.port} ({error.strerror}): try --port"
        ) from error
    listener.listen(2048)
    return listener


def _alone(config: Config) -> Any:
    """Hold the folder: two services in one would write over each other's logs."""
    folder = config.folder.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "service.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(f"another service runs in {folder}: stop it, or give --folder") from error
    return lock


async def _check(upstream: Upstream) -> None:
    try:
        await upstream.check()
    except UpstreamError as error:
        raise ValueError(str(error)) from error
    finally:
        await upstream.close()
