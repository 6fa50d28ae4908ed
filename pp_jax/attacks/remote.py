"""A prediction API over HTTP, as an attacker (or an honest client) sees it: images in, responses out."""

import email.utils
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import numpy as np

from pp_jax._checks import check_count
from pp_jax.serving import work
from pp_jax.serving.answers import PartlyAnswered
from pp_jax.serving.wire import HEADER, Model, WireError, read_v2, write_v2

_AGAIN = (408, 429, 500, 502, 503, 504)


class RemoteError(RuntimeError):
    """The API refused, or did not answer; the message says what it said."""


class RemoteAPI:
    """An Open Inference Protocol v2 server as a black box: the same call as a local one.

        api = RemoteAPI("http://127.0.0.1:8080", "model", key="pp_…")
        attacks.collect(key, Knockoff(), pool, api, budget=1000)

    Long batches are cut into requests. What fails in a way that may pass (too many requests, a server that is busy or
    away) is tried again, after the time that the server names or twice as long each time; what will not pass (a wrong
    key, a blocked or spent account) is raised at once. Where the server asks for proof of work, it is done.

    Args:
        url: the server's address.
        model: the model's name there.
        key: the API key, sent as `Authorization: Bearer`; None sends none.
        batch: images in a request, at most.
        retries: how often a request is tried again.
        patience_s: seconds that one wait may take, at most; a server that names a longer one is given up.
        timeout_s: seconds that one request may take.
        sleep: how it waits.
        transport: how it is sent, for tests: one of httpx's; its own by default.

    Raises:
        ValueError: for a count below its bound, or an address that is none.
        RemoteError: at the first call, for a server that does not know the model or does not speak the protocol.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        batch: int = 256,
        retries: int = 8,
        patience_s: float = 60.0,
        timeout_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
        transport: Any = None,
    ) -> None:
        check_count("batch", batch, low=1)
        check_count("retries", retries, low=0)
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        if not re.fullmatch(r"https?://[^\s/\[\]:]+(:\d+)?(/\S*)?|https?://\[[0-9a-fA-F:]+\](:\d+)?(/\S*)?", url):
            raise ValueError(f"url is {url!r}: must be http://host:port or https://host")
        self._client = httpx.Client(
            base_url=url.rstrip("/"), headers=headers, timeout=timeout_s, transport=transport, trust_env=False
        )
        self._name, self._batch, self._retries = model, batch, retries
        self._patience, self._sleep = patience_s, sleep
        self._model: Model | None = None

    @property
    def model(self) -> Model:
        """Names and shapes of the model's tensors, as the server tells them.

        Raises:
            RemoteError: for a server that does not tell them.
        """
        if self._model is None:
            self._model = self._described()
        return self._model

    def __call__(self, images: Any) -> np.ndarray:
        """Query images, (B, H, W, C), uint8 or floating point in [0, 1]; responses, (B, K) float32.

        Raises:
            RemoteError: for a refusal, or a server that does not answer.
            PartlyAnswered: for the same after the first requests of a long batch were answered; it has these responses.
        """
        pictures = np.asarray(images)
        if pictures.dtype != np.uint8:
            pictures = pictures.astype(np.float32)
        if not len(pictures):
            return np.zeros((0, self.model.classes), np.float32)
        parts: list[np.ndarray] = []
        for begin in range(0, len(pictures), self._batch):
            try:
                parts.append(self._asked(pictures[begin : begin + self._batch]))
            except RemoteError as error:
                if not parts:
                    raise
                raise PartlyAnswered(np.concatenate(parts), str(error)) from error
        return np.concatenate(parts)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _asked(self, images: np.ndarray) -> np.ndarray:
        """The responses to one request."""
        model = self.model
        body, headers = write_v2(images, model)
        response = self._sent("POST", f"/v2/models/{self._name}/infer", body, headers)
        try:
            return read_v2(response.content, response.headers.get(HEADER), model, len(images))
        except WireError as error:
            raise RemoteError(f"{self._client.base_url} answered what cannot be read: {error}") from error

    def _sent(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Any:
        """The answer to one request, tried until it is answered or hopeless."""
        url, lines = self._client.base_url, dict(headers or {})
        for tried in range(self._retries + 1):
            wait = min(2.0**tried / 2, self._patience)
            try:
                response = self._client.request(method, path, content=body, headers=lines)
            except httpx.HTTPError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if response.status_code == 200:
                    return response
                reason = f"status {response.status_code}: {_message(response)}"
                named = _named_wait(response)
                if response.status_code == 428 and (puzzle := response.headers.get(work.CHALLENGE)):
                    lines[work.SOLUTION] = solved(puzzle)
                    wait = 0.0
                elif response.status_code not in _AGAIN:
                    raise RemoteError(f"{url} refused the queries: {reason}")
                elif named is None and response.status_code == 429:
                    raise RemoteError(f"{url} answers no more: {reason}")
                elif named is not None:
                    wait = named
            if wait > self._patience:
                raise RemoteError(f"{url} asks to wait {wait:g} s, more than patience_s: {reason}")
            if tried < self._retries and wait:
                self._sleep(wait)
        raise RemoteError(f"{url} did not answer in {self._retries + 1} tries: {reason}")

    def _described(self) -> Model:
        """The model as its server describes it."""
        path = f"/v2/models/{self._name}"
        response = self._sent("GET", path)
        try:
            told = response.json()
            (given,), (returned,) = told["inputs"], told["outputs"]
            height, width, channels = (int(size) for size in given["shape"][1:])
            return Model(
                self._name, (height, width, channels), int(returned["shape"][-1]), given["name"], returned["name"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise RemoteError(
                f"{self._client.base_url}{path} does not describe a model of images as the Open Inference Protocol v2 "
                f"does ({type(error).__name__}: {error})"
            ) from error


def solved(puzzle: str) -> str:
    """A solution of a puzzle; see `serving.work.solved`.

    Raises:
        RemoteError: for a puzzle that cannot be read, or of more than 32 bits.
    """
    try:
        return work.solved(puzzle)
    except ValueError as error:
        raise RemoteError(str(error)) from error


def _named_wait(response: Any) -> float | None:
    """Seconds that a response asks to wait for, as a number or a date; None where it does not."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())


def _message(response: Any) -> str:
    """What a response says went wrong, in one line."""
    try:
        text = str(response.json().get("error", ""))
    except (ValueError, AttributeError):
        text = response.text
    return " ".join(text.split())[:200] or "nothing more was said"
