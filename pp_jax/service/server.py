"""From options to a running server: parts, port, signals."""

import asyncio
import contextlib
import fcntl
import logging
import resource
import socket
from collections.abc import Iterator
from typing import Any

from uvicorn import Config as UvicornConfig
from uvicorn import Server

from pp_jax import _files
from pp_jax.service import assembly
from pp_jax.service import config as options
from pp_jax.service.answering import Parts
from pp_jax.service.app import application
from pp_jax.service.config import Config
from pp_jax.service.engine import Engine
from pp_jax.service.keys import Keys
from pp_jax.service.ledger import Ledger, Limits, SQLiteLedger
from pp_jax.service.patience import patient
from pp_jax.service.proxy import Upstream, UpstreamError
from pp_jax.service.telemetry import Lines
from pp_jax.serving.wire import Model

_LOG = logging.getLogger(__name__)
_OTHER_FILES = 128  # the store, logs, threads, the model behind


def serve(config: Config) -> None:
    """Serve until stopped by a signal.

    Raises:
        ValueError: for options that cannot be served, or a model that cannot be made ready.
        OSError: for a port or a folder that cannot be used.
    """
    options.check(config)
    _allow_files(config.connections)
    with _listen(config) as listener, _alone(config):
        if config.model.upstream:
            # Before anything long; its connections belong to another event loop, so it is made anew.
            asyncio.run(_check(_upstream(config, assembly.victim(config).model)))
        parts = assemble(config)
        app = application(parts, failed=lambda: setattr(server, "should_exit", True))
        _LOG.info("serving %s on http://%s:%d, docs at /docs", parts.model.name, *listener.getsockname()[:2])
        kind = patient(header_s=config.header_s, body_s=config.body_s, most=config.connections)
        fixed: dict[str, Any] = {"http": kind, "log_config": None, "access_log": False, "timeout_keep_alive": 30}
        settings = UvicornConfig(
            app, limit_concurrency=config.connections + 1, timeout_graceful_shutdown=10, server_header=False, **fixed
        )
        server = Server(settings)
        server.run(sockets=[listener])
        if app.state.service.failure:
            raise ValueError(app.state.service.failure)


def assemble(config: Config) -> Parts:
    """All parts of the application.

    Raises:
        ValueError: in one line, for whatever does not fit.
    """
    limits = config.limits
    keys = Keys(_files.expanded(config.keys) if config.keys else config.path("keys.toml"))
    served = assembly.victim(config)
    policy = assembly.policy(config, served)
    model = served.model
    engine = Engine(
        assembly.look(served), served.params, policy, assembly.secret(config, "defense"),
        model.image_shape, model.classes, config.batches.sizes,
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
        _upstream(config, model) if config.model.upstream else None,
        config.batches.wait_ms / 1000,
        limits.waiting,
        config.body_s,
        config.policy.detector or "none",
        limits.body_mib << 20,
        limits.accounts,
    )


def _upstream(config: Config, model: Model) -> Upstream:
    names = config.model
    there = Model(names.upstream_model, model.image_shape, model.classes, names.upstream_input, names.upstream_output)
    return Upstream(
        names.upstream, there, timeout_s=names.upstream_timeout_s, datatype=names.upstream_datatype,
        channels_first=names.upstream_channels_first,
    )  # fmt: skip


def ledger(config: Config) -> Ledger:
    """The ledger of the options."""
    if config.store.startswith(("redis://", "rediss://", "unix://")):
        from pp_jax.service.redis_ledger import RedisLedger

        shared = RedisLedger(config.store)
        shared.agree(assembly.secret_bytes(config, "fingerprint").hex())
        return shared
    return SQLiteLedger(_files.expanded(config.store) if config.store else config.path("ledger.sqlite"))


def _allow_files(connections: int) -> None:
    """Let the process open as many files as it may have connections, before anything long.

    Raises:
        ValueError: where the system forbids it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ValueError(
            f"connections is {connections}, but a process may open {hard} files here: must be at most "
            f"{max(1, hard - _OTHER_FILES)}, or raise the limit (ulimit -n)"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _listen(config: Config) -> socket.socket:
    """The socket, before anything long: a port that is taken is told at once."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno, f"cannot listen on {config.host}:{config.port} ({error.strerror}): try --port"
        ) from error
    listener.listen(2048)
    return listener


@contextlib.contextmanager
def _alone(config: Config) -> Iterator[None]:
    """Hold the folder: two services in one would write over each other's logs."""
    folder = _files.expanded(config.folder)
    # For the owner's eyes: keys, budgets, logs.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "service.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another service runs in {folder}: stop it, or give --folder") from error
        yield


async def _check(upstream: Upstream) -> None:
    try:
        await upstream.check()
    except UpstreamError as error:
        raise ValueError(str(error)) from error
    finally:
        await upstream.close()
