"""What happens to one request: who asks, what it may, what it gets."""

import asyncio
import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import AsyncIterator, Callable

import numpy as np
from fastapi import Request, Response
from fastapi.responses import JSONResponse

from pp_jax.service import admission
from pp_jax.service.accounts import Accounts
from pp_jax.service.admission import Gatekeeper, Rejected
from pp_jax.service.batching import Batcher, BatchFailed, Overloaded
from pp_jax.service.engine import Answers, Engine
from pp_jax.service.keys import Keys, Principal
from pp_jax.service.ledger import Charged, Ledger, Limits, Refused, StoreError
from pp_jax.service.proxy import Upstream, UpstreamError
from pp_jax.service.telemetry import Lines, Metrics
from pp_jax.serving import wire
from pp_jax.serving.wire import Model, WireError
from pp_jax.serving.work import SOLUTION

_LOG = logging.getLogger(__name__)
_FLUSH_S = 1.0
# A longer body is read in a thread, so that it keeps nobody waiting.
_LONG = 1 << 16


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """What the application is made of.

    Attributes:
        model: names, shapes and limits.
        engine: victim, detector and defense.
        keys: who may ask.
        ledger: budgets and kept memories.
        limits: of an account without its own.
        secret: for challenges.
        alerts: log of accounts that rise to a higher band.
        audit: log of clean posteriors; None keeps none.
        upstream: the server behind; None where the engine has the victim.
        wait_s: longest wait for a batch.
        waiting: images that may wait.
        body_s: seconds for a body.
        detector: its name, for alerts.
        body: bytes of a body, at most.
        accounts: of which something is remembered in memory; the ledger has the others.
    """

    model: Model
    engine: Engine
    keys: Keys
    ledger: Ledger
    limits: Limits
    secret: bytes
    alerts: Lines
    audit: Lines | None = None
    upstream: Upstream | None = None
    wait_s: float = 0.002
    waiting: int = 8192
    body_s: float = 30.0
    detector: str = "none"
    body: int = 64 << 20
    accounts: int = 10_000


class Service:
    """Answers requests; one event loop.

    Args:
        parts: what it is made of.
        failed: called where it cannot be made ready; `failure` says why.
    """

    def __init__(self, parts: Parts, failed: Callable[[], None] = lambda: None) -> None:
        self.parts, self.metrics = parts, Metrics()
        self.batcher = Batcher(parts.engine, wait_s=parts.wait_s, most=parts.waiting, after=self._after)
        self.gate = Gatekeeper(parts.secret)
        described = {"model": parts.model.name, "endpoint": "infer", "detector": parts.detector}
        self.accounts = Accounts(
            parts.engine, parts.ledger, parts.alerts, parts.audit, most=parts.accounts, described=described,
            free=self.gate.forget,
        )  # fmt: skip
        self.ready, self.failure = False, ""
        self._failed = failed
        self._tasks: list[asyncio.Task[None]] = []
        # The longest a request can be: every number as text, and the names around them.
        self._longest = min(parts.body, parts.model.most * math.prod(parts.model.image_shape) * 26 + (1 << 16))

    def start(self) -> None:
        """Compile in the background, and be ready then."""
        self._tasks.append(asyncio.get_running_loop().create_task(self._begin()))

    async def _begin(self) -> None:
        try:
            if self.parts.upstream is not None:
                await self.parts.upstream.check()
            await self.batcher.start()
        except Exception as error:  # whatever it is, a service that is never ready must end, and say why
            self.failure = f"the model cannot be made ready: {error or type(error).__name__}"
            self._failed()
            return
        self.ready = True
        _LOG.info("ready: %s", self.parts.model.name)
        while True:
            await asyncio.sleep(_FLUSH_S)
            await asyncio.to_thread(self.accounts.flush)
            self.accounts.forget()
            self.metrics.accounts.set(len(self.parts.engine.accounts))

    async def stop(self) -> None:
        """Answer what waits, keep all memories, close."""
        self.ready = False
        await self.batcher.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.accounts.flush()
        if self.parts.upstream is not None:
            await self.parts.upstream.close()
        self.parts.ledger.close()

    async def infer(
        self, request: Request, endpoint: str, parse: Callable[[bytes], wire.Request],
        render: Callable[[np.ndarray, wire.Request], tuple[bytes, dict[str, str]]],
    ) -> Response:  # fmt: skip
        """Answer one request, or say why not in the protocol's own words."""
        started = time.perf_counter()
        try:
            principal = admission.principal(request, self.parts.keys)
            body = await admission.body(request, self._longest, self.parts.body_s)
            asked = parse(body) if len(body) < _LONG else await asyncio.to_thread(parse, body)
            solution = request.headers.get(SOLUTION, "")
            responses = await self._answered(principal, asked.images, body, solution)
            content, headers = render(responses, asked)
            response = Response(content, headers=headers)
        except Rejected as error:
            self.metrics.refused.labels(error.reason).inc()
            response = JSONResponse({"error": str(error)}, error.code, error.headers)
        except WireError as error:
            self.metrics.refused.labels("malformed").inc()
            response = JSONResponse({"error": str(error)}, error.status)
        self.metrics.requests.labels(endpoint, str(response.status_code)).inc()
        self.metrics.seconds.observe(time.perf_counter() - started)
        return response

    def owner(self, request: Request) -> Principal:
        """The defender, for pages that are nobody else's.

        Raises:
            Rejected: for any other key.
        """
        principal = admission.principal(request, self.parts.keys)
        if not principal.trusted:
            raise Rejected(403, "forbidden", "this page needs a trusted key")
        return principal

    async def _answered(self, principal: Principal, images: np.ndarray, body: bytes, solution: str) -> np.ndarray:
        """Responses of one account, after its budget and its band."""
        if not self.ready:
            raise Rejected(503, "not ready", "the model is not ready", {"Retry-After": "1"})
        pixels = images.astype(np.float32) / 255 if images.dtype == np.uint8 else images
        if principal.trusted:
            return (await self._asked(pixels, None)).probs.astype(np.float32)
        name, policy = principal.name, self.parts.engine.policy
        try:
            async with self.accounts.using(name):
                if not policy.audit_only:
                    action = policy.actions[int(self.parts.engine.state(name).band)]
                    self.gate.permit(name, action, len(images), body, solution)
                charged = await self._charge(principal, len(images))
                async with self._refunded(charged):
                    return (await self._asked(pixels, name)).responses
        except StoreError as error:
            _LOG.error("%s", error)
            raise Rejected(503, "ledger", "budgets cannot be read: try again later", {"Retry-After": "5"}) from error

    async def _asked(self, pixels: np.ndarray, name: str | None) -> Answers:
        """Answers from the model, here or behind."""
        try:
            probs = None if self.parts.upstream is None else await self.parts.upstream.ask(pixels)
            return await self.batcher.submit(pixels, name, probs)
        except Overloaded as error:
            raise Rejected(503, "overloaded", "too many images are waiting", {"Retry-After": "1"}) from error
        except UpstreamError as error:
            _LOG.warning("the server behind failed: %s", error)
            raise Rejected(502, "upstream", "the model behind did not answer") from error
        except BatchFailed as error:
            _LOG.error("%s", error)
            raise Rejected(500, "failed", "the images could not be answered") from error

    async def _charge(self, principal: Principal, count: int) -> Charged:
        own = {"total": principal.budget, "rate": principal.rate}
        limits = dataclasses.replace(self.parts.limits, **{k: v for k, v in own.items() if v is not None})
        charged = await asyncio.to_thread(self.parts.ledger.charge, principal.name, count, limits)
        if isinstance(charged, Refused):
            headers = {} if charged.retry_after is None else {"Retry-After": str(charged.retry_after)}
            raise Rejected(429, "budget", charged.reason, headers)
        return charged

    @contextlib.asynccontextmanager
    async def _refunded(self, charged: Charged) -> AsyncIterator[None]:
        """Give images back where nothing of their answer is sent."""
        try:
            yield
        except BaseException:
            try:
                await asyncio.shield(asyncio.to_thread(self.parts.ledger.refund, charged))
            except StoreError as error:
                _LOG.error("%d images of %s stay charged unanswered: %s", charged.images, charged.name, error)
            raise

    def _after(self, names: list[str | None], answers: Answers, seconds: float) -> None:
        """Count a batch, and write down what it came to; in the batches' thread."""
        self.metrics.batched(answers, np.asarray([name is not None for name in names]), seconds)
        for band in self.accounts.after(names, answers):
            self.metrics.alerts.labels(str(band)).inc()
