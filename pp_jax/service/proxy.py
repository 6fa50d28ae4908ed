"""A server that is there already, behind the defense: an Open Inference Protocol v2 client."""

import numpy as np

from pp_jax.serving.wire import HEADER, Model, WireError, read_v2, write_v2


class UpstreamError(RuntimeError):
    """The server behind did not answer as it must; nothing of its answer is passed on."""


class Upstream:
    """Asks a server for clean posteriors.

    Args:
        url: its address, http://host:port.
        model: names of the model and its tensors there, and the shapes.
        timeout_s: seconds that it may take.
    """

    def __init__(self, url: str, model: Model, *, timeout_s: float) -> None:
        import httpx

        self._model = model
        self._path = f"/v2/models/{model.name}/infer"
        self._ready = f"/v2/models/{model.name}/ready"
        limits = httpx.Limits(max_connections=16)
        self._client = httpx.AsyncClient(base_url=url.rstrip("/"), timeout=timeout_s, limits=limits, trust_env=False)

    async def check(self) -> None:
        """Refuse a server that does not speak the protocol or does not know the model.

        Raises:
            UpstreamError: in one line.
        """
        import httpx

        try:
            server = await self._client.get("/v2")
            ready = await self._client.get(self._ready)
        except httpx.HTTPError as error:
            raise UpstreamError(f"{self._client.base_url} does not answer ({error or type(error).__name__})") from error
        if server.status_code != 200 or ready.status_code != 200:
            raise UpstreamError(
                f"{self._client.base_url} is no Open Inference Protocol v2 server with a ready model "
                f"{self._model.name!r}: /v2 answers {server.status_code}, {self._ready} {ready.status_code}"
            )

    async def ask(self, images: np.ndarray) -> np.ndarray:
        """Clean posteriors of images, (B, K) float32.

        Raises:
            UpstreamError: for no answer in time, another status, or numbers that are no posteriors.
        """
        import httpx

        body, headers = write_v2(images, self._model)
        longest = len(images) * self._model.classes * 26 + (1 << 16)
        try:
            async with self._client.stream("POST", self._path, content=body, headers=headers) as response:
                if response.status_code != 200:
                    raise UpstreamError(f"status {response.status_code}")
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > longest:
                        raise UpstreamError(f"its response has more than {longest} bytes")
            probs = read_v2(bytes(content), response.headers.get(HEADER), self._model, len(images))
        except (httpx.HTTPError, WireError) as error:
            raise UpstreamError(f"{type(error).__name__}: {error}") from error
        if (probs < 0).any() or (np.abs(probs.sum(axis=1) - 1) > 1e-3).any():
            raise UpstreamError("its outputs are no posteriors: they must not be negative and sum to one")
        return probs

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
