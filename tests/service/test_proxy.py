"""Before a server that is there: its posteriors are defended, and whatever else it does is a 502 and given back."""

import asyncio
import time

import jax.numpy as jnp
import numpy as np
import orjson
import pytest

import servers
from pp_jax import chain, detection
from pp_jax.defenses import Top1
from pp_jax.detection import Policy
from pp_jax.service.assembly import _NoNetwork
from pp_jax.service.proxy import Upstream, UpstreamError
from pp_jax.serving import wire

THERE = wire.Model("there", (8, 8, 1), 4, "in", "out")


class Fake:
    """An upstream server that does what a test says; an ASGI application."""

    def __init__(self):
        self.does, self.asked = "answer", []

    async def __call__(self, scope, receive, send):
        """Answer."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        status, content, given = 200, b"{}", {}
        if scope["method"] == "POST":
            images = wire.parse_v2(body, headers.get("inference-header-content-length"), THERE).images
            self.asked.append(images)
            status, content, given = await self.posteriors(images)
        lines = [(k.lower().encode(), v.encode()) for k, v in given.items()]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": content})

    async def posteriors(self, images):
        """Status, body and headers."""
        rows = np.full((len(images), 4), 0.1, np.float32)
        rows[:, 1] = 0.7
        binary = wire.Request(images, binary=True)
        if self.does == "slow":
            await asyncio.sleep(1.5)
        if self.does == "error":
            return 500, b"clean posterior: 0.1 0.7", {}
        if self.does == "garbage":
            return 200, b"\x00\xff garbage", {}
        if self.does == "half":
            content, headers = wire.render_v2(rows, binary, THERE)
            return 200, content[: len(content) // 2], headers
        if self.does == "endless":
            return 200, b" " * 3_000_000, {}
        if self.does == "others":
            return 200, orjson.dumps({"outputs": [{"name": "logits", "shape": [1, 4], "data": [1, 2, 3, 4]}]}), {}
        changed = {
            "nan": rows * np.nan, "negative": rows - 0.2, "logits": rows * 9, "shape": rows[:, :3], "rows": rows[:-1],
        }.get(self.does, rows)  # fmt: skip
        return (200, *wire.render_v2(changed, binary, THERE))


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """The fake server, and the service before it."""
    fake = Fake()
    watcher = detection.LabelMMD(jnp.full(4, 0.25), window=4)
    served = Policy(watcher, (0.2,), (chain(), Top1()), _NoNetwork.features, None)
    with servers.serving(fake, lifespan="off") as (_, port):
        upstream = Upstream(f"http://127.0.0.1:{port}", THERE, timeout_s=0.5)
        with servers.running(tmp_path_factory.mktemp("proxy"), served, behind=upstream) as server:
            yield server, fake


def test_what_it_says_is_defended(behind):
    server, fake = behind
    fake.does = "answer"
    found = server.ask(servers.images(8)).json()["predictions"]
    np.testing.assert_allclose(found[0], [0.1, 0.7, 0.1, 0.1], atol=1e-6)
    np.testing.assert_allclose(found[-1], [0, 1, 0, 0], atol=1e-6)  # one class again and again
    assert fake.asked[-1].dtype == np.float32  # which any server takes, whatever the client sent


@pytest.mark.parametrize(
    "does",
    ["slow", "error", "garbage", "half", "endless", "others", "nan", "negative", "logits", "shape", "rows"],
)  # fmt: skip
def test_whatever_else_it_does_is_a_502_and_given_back(behind, does):
    server, fake = behind
    fake.does, before = does, server.parts.ledger.spent("bob")
    started = time.monotonic()
    found = server.ask(servers.images(5), "bob")
    assert (found.status_code, found.json()) == (502, {"error": "the model behind did not answer"})
    assert time.monotonic() - started < 3
    assert server.parts.ledger.spent("bob") == before
    fake.does = "answer"
    assert server.ask(servers.images(5), "bob").status_code == 200
    assert server.parts.ledger.spent("bob") == before + 5


def test_many_at_once_keep_their_own_posteriors_and_failures(behind):
    server, fake = behind
    fake.does, before = "answer", server.parts.ledger.spent("carol")
    codes = [server.ask(servers.images(16, i), "carol").status_code for i in range(4)]
    assert codes == [200] * 4
    assert server.parts.ledger.spent("carol") == before + 64


def test_one_that_is_not_there_or_speaks_otherwise_is_refused():
    async def check(url):
        upstream = Upstream(url, THERE, timeout_s=0.5)
        try:
            await upstream.check()
        finally:
            await upstream.close()

    with pytest.raises(UpstreamError, match="does not answer"):
        asyncio.run(check("http://127.0.0.1:9"))


def test_one_that_is_gone_is_a_502(tmp_path):
    fake = Fake()
    served = Policy(detection.LabelMMD(jnp.full(4, 0.25)), (0.9,), (chain(), Top1()), _NoNetwork.features, None)
    with servers.serving(fake, lifespan="off") as (there, port):
        upstream = Upstream(f"http://127.0.0.1:{port}", THERE, timeout_s=0.5)
        with servers.running(tmp_path, served, behind=upstream) as server:
            assert server.ask(servers.images(2)).status_code == 200
            there.should_exit = True
            time.sleep(0.5)
            assert server.ask(servers.images(2)).status_code == 502
            assert server.parts.ledger.spent("alice") == 2
