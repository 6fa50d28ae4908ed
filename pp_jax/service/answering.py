"""What happens to one request: who asks, what it may, what it gets."""

import asyncio
import base64
import contextlib
import dataclasses
import hashlib
import hmac
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from fastapi import Request, Response
from fastapi.responses import JSONResponse

from pp_jax.detection.policy import Blocked, ProofOfWork, Throttled
from pp_jax.service.batching import Batcher, Overloaded
from pp_jax.service.engine import Answers, Engine
from pp_jax.service.keys import Keys, Principal
from pp_jax.service.ledger import Ledger, Limits, Refused
from pp_jax.service.memory import packed, unpacked
from pp_jax.service.proxy import Upstream, UpstreamError
from pp_jax.service.telemetry import Lines, Metrics
from pp_jax.serving import wire
from pp_jax.serving.wire import Model, WireError

_LOG = logging.getLogger(__name__)
_CHALLENGE = "X-Work-Challenge"
_SOLUTION = "X-Work-Solution"
_FLUSH_S = 1.0


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


class Rejected(Exception):
    """A request that is not answered: status, reason for the metrics, message for the client."""

    def __init__(self, code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.headers = code, reason, headers or {}


class Service:
    """Answers requests; one event loop.

    Args:
        parts: what it is made of.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts, self.metrics = parts, Metrics()
        self.batcher = Batcher(parts.engine, wait_s=parts.wait_s, most=parts.waiting, after=self._after)
        self.ready = False
        self._last: dict[str, float] = {}
        self._dirty: set[str] = set()
        self._bands: dict[str, int] = {}
        self._restored: set[str] = set()
        shape = parts.model.image_shape
        # The longest a request can be: every number as text, and the names around them.
        self._longest = parts.model.most * math.prod(shape) * 26 + (1 << 16)

    async def start(self) -> None:
        """Check the server behind, compile, and be ready."""
        if self.parts.upstream is not None:
            await self.parts.upstream.check()
        await self.batcher.start()
        self._flusher = asyncio.get_running_loop().create_task(self._flush_often())
        self.ready = True

    async def stop(self) -> None:
        """Answer what waits, keep all memories, close."""
        self.ready = False
        await self.batcher.stop()
        self._flusher.cancel()
        self._flush()
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
            principal = self._principal(request)
            body = await self._body(request)
            asked = parse(body)
            responses = await self._answered(principal, asked.images, body, request)
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
        principal = self._principal(request)
        if not principal.trusted:
            raise Rejected(403, "forbidden", "this page needs a trusted key")
        return principal

    def _principal(self, request: Request) -> Principal:
        header = request.headers.get("authorization", "")
        kind, _, value = header.partition(" ")
        key = value.strip()
        if kind.lower() == "basic":
            with contextlib.suppress(ValueError):
                key = base64.b64decode(key, validate=True).decode("utf-8", "replace").partition(":")[2]
        found = self.parts.keys.find(key) if kind.lower() in ("bearer", "basic") and key else None
        if found is None:
            demand = {
                "WWW-Authenticate": 'Basic realm="pp_jax"'
                if "text/html" in request.headers.get("accept", "")
                else "Bearer"
            }
            raise Rejected(401, "unauthorized", "a valid key is needed: Authorization: Bearer KEY", demand)
        return found

    async def _body(self, request: Request) -> bytes:
        """The body, within a bound of length and time."""
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Rejected(415, "encoding", "Content-Encoding must be identity")
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._longest:
            raise Rejected(413, "too long", f"the body must have at most {self._longest} bytes")
        body = bytearray()
        try:
            async with asyncio.timeout(self.parts.body_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self._longest:
                        raise Rejected(413, "too long", f"the body must have at most {self._longest} bytes")
        except TimeoutError as error:
            raise Rejected(408, "slow", f"the body must come within {self.parts.body_s:g} seconds") from error
        return bytes(body)

    async def _answered(self, principal: Principal, images: np.ndarray, body: bytes, request: Request) -> np.ndarray:
        """Responses of one account, after its budget and its band."""
        if not self.ready:
            raise Rejected(503, "not ready", "the model is not ready", {"Retry-After": "1"})
        name = None if principal.trusted else principal.name
        count, limits = len(images), self._limits(principal)
        if name is not None:
            self._restore(name)
            self._permit(name, body, request)
            await self._charge(name, count, limits)
        pixels = images.astype(np.float32) / 255 if images.dtype == np.uint8 else images
        try:
            probs = None if self.parts.upstream is None else await self.parts.upstream.ask(images)
            answers = await self.batcher.submit(pixels, name, probs)
        except BaseException as error:
            if name is not None:
                await asyncio.shield(asyncio.to_thread(self.parts.ledger.refund, name, count, limits))
            if isinstance(error, Overloaded):
                raise Rejected(503, "overloaded", "too many images are waiting", {"Retry-After": "1"}) from error
            if isinstance(error, UpstreamError):
                _LOG.warning("the server behind failed: %s", error)
                raise Rejected(502, "upstream", "the model behind did not answer") from error
            if isinstance(error, RuntimeError):
                _LOG.error("%s", error)
                raise Rejected(500, "failed", "the images could not be answered") from error
            raise
        if name is not None:
            self._last[name] = time.monotonic()
        return answers.probs.astype(np.float32) if principal.trusted else answers.responses

    def _limits(self, principal: Principal) -> Limits:
        own = {"total": principal.budget, "rate": principal.rate}
        return dataclasses.replace(self.parts.limits, **{k: v for k, v in own.items() if v is not None})

    async def _charge(self, name: str, count: int, limits: Limits) -> None:
        try:
            refused = await asyncio.to_thread(self.parts.ledger.charge, name, count, limits)
        except Exception as error:
            _LOG.error("the ledger failed: %s: %s", type(error).__name__, error)
            raise Rejected(503, "ledger", "budgets cannot be read: try again later", {"Retry-After": "5"}) from error
        if isinstance(refused, Refused):
            headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
            raise Rejected(429, "budget", refused.reason, headers)

    def _permit(self, name: str, body: bytes, request: Request) -> None:
        """What the account's band asks before an answer: nothing, time, work, or that it goes away."""
        policy = self.parts.engine.policy
        if policy.audit_only:
            return
        action = policy.actions[int(self.parts.engine.state(name).band)]
        if isinstance(action, Blocked):
            raise Rejected(403, "blocked", "this account is blocked: ask the owner of the service")
        if isinstance(action, Throttled):
            left = self._last.get(name, -math.inf) + action.seconds - time.monotonic()
            if left > 0:
                raise Rejected(429, "throttled", "too many requests", {"Retry-After": str(math.ceil(left))})
        if isinstance(action, ProofOfWork):
            challenge = hmac.digest(self.parts.secret, name.encode() + b"\0" + body, hashlib.sha256).hex()
            if not worked(challenge, request.headers.get(_SOLUTION, ""), action.bits):
                headers = {_CHALLENGE: f"{action.bits}:{challenge}"}
                raise Rejected(
                    428, "work", f"find a text t for {_SOLUTION} such that SHA-256(challenge + t) begins with "
                    f"{action.bits} zero bits", headers,
                )  # fmt: skip

    def _after(self, names: list[str | None], answers: Answers, seconds: float) -> None:
        """Count a batch, and write down who rose to a higher band; in the batches' thread."""
        self.metrics.batched(answers, seconds)
        actions = self.parts.engine.policy.actions
        for row, name in enumerate(names):
            if name is None:
                continue
            self._dirty.add(name)
            band = int(answers.bands[row])
            if band > self._bands.get(name, 0):
                self._bands[name] = band
                self.metrics.alerts.labels(str(band)).inc()
                self._keep(name)
                self.parts.alerts.write(
                    principal=name, model=self.parts.model.name, endpoint="infer", detector=self.parts.detector,
                    score=_finite(answers.scores[row]), band=band, action=type(actions[band]).__name__,
                    audit_only=self.parts.engine.policy.audit_only,
                )  # fmt: skip
            if self.parts.audit is not None:
                self.parts.audit.write(
                    principal=name, probs=[round(float(p), 6) for p in answers.probs[row]],
                    score=_finite(answers.scores[row]), band=band,
                )  # fmt: skip
        self.metrics.waiting.set(len(self.parts.engine.accounts))

    def _restore(self, name: str) -> None:
        """Remember again what was kept of an account before a restart."""
        if name in self._restored:
            return
        self._restored.add(name)
        kept = self.parts.ledger.kept(name)
        state = None if kept is None else unpacked(kept, self.parts.engine.state(None))
        if state is not None:
            self.parts.engine.restore(name, state)
            self._bands[name] = int(state.band)

    def _keep(self, name: str) -> None:
        try:
            self.parts.ledger.keep(name, packed(self.parts.engine.state(name)))
        except Exception as error:
            _LOG.error("what is remembered of accounts cannot be kept: %s: %s", type(error).__name__, error)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for name in dirty:
            self._keep(name)

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            await self.batcher.in_thread(self._flush)


def worked(challenge: str, solution: str, bits: int) -> bool:
    """Whether SHA-256(challenge + solution) begins with so many zero bits; solutions have at most 64 characters."""
    if not 0 < len(solution) <= 64:
        return False
    found = hashlib.sha256((challenge + solution).encode("utf-8", "replace")).digest()
    return int.from_bytes(found, "big") >> (256 - bits) == 0


def _finite(score: Any) -> float | None:
    value = float(score)
    return value if math.isfinite(value) else None
