"""What stands before an answer: a key, a body within bounds, and what the account's band asks for."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import math
import time
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from pp_jax.detection.policy import Blocked, ProofOfWork, Throttled
from pp_jax.service.keys import Keys, Principal
from pp_jax.serving.work import CHALLENGE, SOLUTION, worked


class Rejected(Exception):
    """A request that is not answered: status, reason for the metrics, message for the client."""

    def __init__(self, code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.headers = code, reason, headers or {}


def principal(request: Request, keys: Keys) -> Principal:
    """Who asks: the key as `Authorization: Bearer`, or as the password of `Basic`, which browsers offer.

    Raises:
        Rejected: 401, for no key or an unknown one.
    """
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    key = value.strip()
    if kind.lower() == "basic":
        with contextlib.suppress(ValueError):
            key = base64.b64decode(key, validate=True).decode("utf-8", "replace").partition(":")[2]
    found = keys.find(key) if kind.lower() in ("bearer", "basic") and key else None
    if found is None:
        page = "text/html" in request.headers.get("accept", "")
        demand = {"WWW-Authenticate": 'Basic realm="pp_jax"' if page else "Bearer"}
        raise Rejected(401, "unauthorized", "a valid key is needed: Authorization: Bearer KEY", demand)
    return found


async def body(request: Request, longest: int, seconds: float) -> bytes:
    """The body, within a bound of length and time.

    Raises:
        Rejected: 408, 413 or 415, as soon as it is known, whatever is still to come.
    """
    headers = request.headers
    if "content-length" in headers and "transfer-encoding" in headers:
        raise Rejected(
            400, "malformed", "Content-Length and Transfer-Encoding exclude each other", {"Connection": "close"}
        )
    if headers.get("content-encoding", "identity") != "identity":
        raise Rejected(415, "encoding", "Content-Encoding must be identity")
    length = headers.get("content-length", "")
    too_long = Rejected(413, "too long", f"the body must have at most {longest} bytes")
    if length.isdigit() and int(length) > longest:
        raise too_long
    content = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > longest:
                    raise too_long
    except TimeoutError as error:
        raise Rejected(
            408, "slow", f"the body must come within {seconds:g} seconds", {"Connection": "close"}
        ) from error
    except ClientDisconnect as error:
        raise Rejected(400, "gone", "the client went away") from error
    return bytes(content)


class Gatekeeper:
    """What an account's band asks before an answer: nothing, time, work, or that it goes away.

    An image is the unit, as everywhere: after n images a throttled account waits n times as long, and n images cost n
    times the work, to the next power of two.

    Args:
        secret: for challenges.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._free: dict[str, float] = {}

    def permit(self, name: str, action: Any, images: int, content: bytes, solution: str) -> None:
        """Let a request pass, or say what it lacks.

        Args:
            name: of the account.
            action: of its band.
            images: in the request.
            content: the request's body, which the work is bound to.
            solution: of the work; empty for none.

        Raises:
            Rejected: 403 for a blocked account, 429 for one that must wait, 428 where work is asked for.
        """
        if isinstance(action, Blocked):
            raise Rejected(403, "blocked", "this account is blocked: ask the owner of the service")
        if isinstance(action, Throttled):
            now = time.monotonic()
            left = self._free.get(name, now) - now
            if left > 0:
                raise Rejected(429, "throttled", "too many requests", {"Retry-After": str(math.ceil(left))})
            # From here on, not from the answer on: or requests sent at the same time would all pass.
            self._free[name] = now + images * action.seconds
        if isinstance(action, ProofOfWork):
            bits = action.bits + (images - 1).bit_length()
            challenge = hmac.digest(self._secret, name.encode() + b"\0" + content, hashlib.sha256).hex()
            if not worked(challenge, solution, bits):
                text = f"find a text t for {SOLUTION} such that SHA-256(challenge + t) begins with {bits} zero bits"
                raise Rejected(428, "work", text, {CHALLENGE: f"{bits}:{challenge}"})

    def forget(self, name: str) -> bool:
        """Whether nothing need be remembered of an account; then nothing is."""
        if self._free.get(name, 0.0) > time.monotonic():
            return False
        self._free.pop(name, None)
        return True
