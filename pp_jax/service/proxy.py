"""A server that is there already, behind the defense: an Open Inference Protocol v2 client."""

import numpy as np

from pp_jax._checks import violations
from pp_jax.serving.wire import HEADER, Model, WireError, read_v2, write_v2


class UpstreamError(RuntimeError):
    """The server behind did not answer as it must; nothing of its answer is passed on."""


class Upstream:
    """Asks a server for clean posteriors.

    Args:
        url: its address, http://host:port.
        model: names of the model and its tensors there, and the shapes.
        timeout_s: seconds that it may take.
        datatype: of the pixels there: FP32 in [0, 1], or UINT8.
        channels_first: whether images are (C, H, W) there.

    Raises:
        ValueError: for another datatype.
    """

    def __init__(
        self, url: str, model: Model, *, timeout_s: float, datatype: str = "FP32", channels_first: bool = False
    ) -> None:
        import httpx

        if datatype not in ("FP32", "UINT8"):
            raise ValueError(f"the upstream server's datatype is {datatype!r}: must be FP32 or UINT8")
        self._model, self._datatype, self._channels_first = model, datatype, channels_first
        self._binary = True
        self._path = f"/v2/models/{model.name}/infer"
        self._ready = f"/v2/models/{model.name}/ready"
        limits = httpx.Limits(max_connections=16)
        self._client = httpx.AsyncClient(base_url=url.rstrip("/"), timeout=timeout_s, limits=limits, trust_env=False)

    async def check(self) -> None:
        """Refuse a server that does not speak the protocol or does not know the model; find out how to send tensors.

        A black image is asked about, as binary tensors and, where the server does not take these, as JSON.

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
        black, errors = np.zeros((1, *self._model.image_shape), np.float32), []
        for self._binary in (True, False):
            try:
                await self.ask(black)
            except UpstreamError as error:
                errors.append(f"as {'binary tensors' if self._binary else 'JSON'}, {error}")
            else:
                return
        raise UpstreamError(
            f"{self._client.base_url} does not answer for a {self._datatype} image {self._model.input!r}: "
            f"{'; '.join(errors)}: check --model.upstream-input, -output, -datatype and -channels-first"
        )

    async def ask(self, images: np.ndarray) -> np.ndarray:
        """Clean posteriors of images, (B, K) float32.

        Raises:
            UpstreamError: for no answer in time, another status, or numbers that are no posteriors.
        """
        import httpx

        body, headers = write_v2(self._pixels(images), self._model, binary=self._binary)
        longest = len(images) * self._model.classes * 26 + (1 << 16)
        try:
            async with self._client.stream("POST", self._path, content=body, headers=headers) as response:
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > longest:
                        raise UpstreamError(f"its response has more than {longest} bytes")
            if response.status_code != 200:
                said = " ".join(content[:200].decode("utf-8", "replace").split())
                raise UpstreamError(f"status {response.status_code}: {said}")
            probs = read_v2(bytes(content), response.headers.get(HEADER), self._model, len(images))
        except (httpx.HTTPError, WireError) as error:
            raise UpstreamError(f"{type(error).__name__}: {error}") from error
        if violations(probs, np).any():
            raise UpstreamError("its outputs are no posteriors: they must not be negative and sum to one")
        return probs

    def _pixels(self, images: np.ndarray) -> np.ndarray:
        """Images in the datatype and order of axes there."""
        if self._datatype == "UINT8" and images.dtype != np.uint8:
            images = np.rint(images * 255).astype(np.uint8)
        elif self._datatype == "FP32" and images.dtype == np.uint8:
            images = images.astype(np.float32) / 255
        return images.transpose(0, 3, 1, 2) if self._channels_first else images

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
