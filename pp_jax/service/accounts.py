"""What is remembered of accounts, kept in the ledger and read again; who rises to a higher band is written down."""

import asyncio
import collections
import contextlib
import logging
import math
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from pp_jax.service.engine import Answers, Engine
from pp_jax.service.ledger import Ledger, StoreError
from pp_jax.service.memory import packed, unpacked
from pp_jax.service.telemetry import Lines

_LOG = logging.getLogger(__name__)


class Accounts:
    """The engine's memories of accounts, as many as `most` of them at once; the ledger has the others.

    `using`, `flush` and `forget` belong to the event loop, `after` to the thread of the batches.

    Args:
        engine: remembers them.
        ledger: keeps them.
        alerts: log of accounts that rise to a higher band.
        audit: log of clean posteriors; None keeps none.
        most: accounts in memory.
        described: what every alert says as well: model, detector, endpoint.
        free: whether what others remember of an account may be forgotten too.
    """

    def __init__(
        self, engine: Engine, ledger: Ledger, alerts: Lines, audit: Lines | None, *, most: int,
        described: dict[str, Any], free: Callable[[str], bool] = lambda name: True,
    ) -> None:  # fmt: skip
        self._engine, self._ledger, self._alerts, self._audit = engine, ledger, alerts, audit
        self._most, self._described, self._free = most, described, free
        self._used: collections.Counter[str] = collections.Counter()
        # The least recently used first.
        self._restored: collections.OrderedDict[str, asyncio.Task[None]] = collections.OrderedDict()
        self._dirty: set[str] = set()
        self._bands: dict[str, int] = {}
        self._lock = threading.Lock()

    @contextlib.asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[None]:
        """Have an account in memory for the time of a request.

        Raises:
            StoreError: where the ledger does not say what it kept; an account is never taken for a new one then.
        """
        self._used[name] += 1
        try:
            task = self._restored.get(name)
            if task is None:
                task = self._restored[name] = asyncio.get_running_loop().create_task(self._restore(name))
            self._restored.move_to_end(name)
            try:
                await asyncio.shield(task)
            except StoreError:
                if self._restored.get(name) is task:
                    del self._restored[name]
                raise
            yield
        finally:
            self._used[name] -= 1
            if not self._used[name]:
                del self._used[name]

    async def _restore(self, name: str) -> None:
        """Remember again what was kept of an account."""
        kept = await asyncio.to_thread(self._ledger.kept, name)
        state = None if kept is None else unpacked(kept, self._engine.state(None))
        if state is not None:
            self._engine.restore(name, state)
            self._bands[name] = int(state.band)

    def after(self, names: list[str | None], answers: Answers) -> list[int]:
        """Write down what a batch came to; returns the bands that accounts rose to."""
        policy, risen = self._engine.policy, []
        for row, name in enumerate(names):
            if name is None:
                continue
            self._dirty.add(name)
            band = int(answers.bands[row])
            if band > self._bands.get(name, 0):
                self._bands[name] = band
                risen.append((row, name, band))
        if risen:
            # At once: an account must not come down by a crash of the service.
            self._keep([name for _, name, _ in risen])
            self._alerts.write(
                {
                    "principal": name, **self._described, "score": _finite(answers.scores[row]), "band": band,
                    "action": type(policy.actions[band]).__name__, "audit_only": policy.audit_only,
                }
                for row, name, band in risen
            )  # fmt: skip
        if self._audit is not None:
            self._audit.write(
                {
                    "principal": name, "probs": [round(float(p), 6) for p in answers.probs[row]],
                    "score": _finite(answers.scores[row]), "band": int(answers.bands[row]),
                }
                for row, name in enumerate(names)
                if name is not None
            )  # fmt: skip
        return [band for _, _, band in risen]

    def flush(self) -> None:
        """Keep the memories that have changed; may be called from any thread."""
        names = []
        with contextlib.suppress(KeyError):
            while True:
                names.append(self._dirty.pop())
        if names:
            self._keep(names)

    def forget(self) -> None:
        """Leave to the ledger the accounts that were not used for longest, beyond `most` of them."""
        for name in list(self._restored)[: max(0, len(self._restored) - self._most)]:
            if name not in self._used and name not in self._dirty and self._free(name):
                del self._restored[name]
                self._engine.forget(name)
                self._bands.pop(name, None)

    def _keep(self, names: list[str]) -> None:
        with self._lock:
            try:
                self._ledger.keep({name: packed(self._engine.state(name)) for name in names})
            except StoreError as error:
                self._dirty.update(names)
                _LOG.error("what is remembered of accounts cannot be kept now: %s", error)


def _finite(score: Any) -> float | None:
    value = float(score)
    return value if math.isfinite(value) else None
