"""A prediction API over HTTP as a black box: retries, waits, work, refusals; the same transfer set as a local one."""

import email.utils
import hashlib
import time

import httpx
import jax
import numpy as np
import pytest

import servers
import smallworld
from pp_jax import BlackBox, attacks, chain
from pp_jax.attacks.remote import RemoteAPI, RemoteError, solved
from pp_jax.defenses import RandomNoise
from pp_jax.detection import ProofOfWork
from pp_jax.service.ledger import Limits
from pp_jax.serving import wire
from pp_jax.serving.answers import PartlyAnswered

MODEL = wire.Model("m", (2, 2, 1), 3)
METADATA = {
    "name": "m",
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 2, 2, 1]}],
    "outputs": [{"name": "posterior", "datatype": "FP32", "shape": [-1, 3]}],
}


class Scripted:
    """A server that does what a test says, request by request, then answers; notes what was asked."""

    def __init__(self, *does):
        self.does, self.sizes, self.slept, self.headers = list(does), [], [], []

    def __call__(self, request):
        """Answer."""
        if request.method == "GET":
            return httpx.Response(200, json=METADATA)
        asked = wire.parse_v2(request.content, request.headers.get(wire.HEADER), MODEL)
        self.sizes.append(len(asked.images))
        self.headers.append(request.headers)
        if self.does:
            what = self.does.pop(0)
            if isinstance(what, Exception):
                raise what
            return what
        responses = np.repeat(asked.images.reshape(len(asked.images), 4)[:, :1], 3, axis=1)
        content, headers = wire.render_v2(responses.astype(np.float32), asked, MODEL)
        return httpx.Response(200, content=content, headers=headers)

    def api(self, **options):
        """The black box before it."""
        fixed = {"key": "pp_k", "sleep": self.slept.append, "transport": httpx.MockTransport(self)}
        return RemoteAPI("http://there", "m", **{**fixed, **options})


def images(count):
    return np.linspace(0, 1, count * 4, dtype=np.float32).reshape(count, 2, 2, 1)


def test_long_batches_are_cut_and_stay_in_order():
    server = Scripted()
    found = server.api(batch=4)(images(10))
    assert server.sizes == [4, 4, 2]
    np.testing.assert_array_equal(found[:, 0], images(10)[:, 0, 0, 0])
    assert found.dtype == np.float32
    assert server.api()(images(0)).shape == (0, 3)
    assert server.headers[0]["authorization"] == "Bearer pp_k"


@pytest.mark.parametrize(
    "fault",
    [
        httpx.Response(503),
        httpx.Response(502),
        httpx.Response(500),
        httpx.ConnectError("gone"),
        httpx.ReadTimeout("late"),
    ],
)
def test_what_may_pass_is_tried_again_and_each_time_later(fault):
    server = Scripted(fault, fault, fault)
    assert server.api()(images(2)).shape == (2, 3)
    assert server.slept == [0.5, 1.0, 2.0]


def test_it_waits_as_long_as_the_server_says():
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    server = Scripted(
        httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(503, headers={"Retry-After": date})
    )
    server.api()(images(1))
    assert server.slept[0] == 7
    assert 25 < server.slept[1] <= 30
    long = Scripted(httpx.Response(429, headers={"Retry-After": "3600"}, json={"error": "rate"}))
    with pytest.raises(RemoteError, match=r"asks to wait 3600 s, more than patience_s: status 429: rate"):
        long.api()(images(1))
    assert long.slept == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415])
def test_what_will_not_pass_is_raised_at_once(status):
    server = Scripted(httpx.Response(status, json={"error": "no\nnever"}))
    with pytest.raises(RemoteError, match=rf"refused the queries: status {status}: no never"):
        server.api()(images(1))
    assert (len(server.sizes), server.slept) == (1, [])


def test_a_budget_that_is_spent_is_raised_at_once():
    server = Scripted(httpx.Response(429, json={"error": "0 left"}))
    with pytest.raises(RemoteError, match="answers no more: status 429: 0 left"):
        server.api()(images(1))
    assert server.slept == []


def test_it_gives_up_after_so_many_tries():
    server = Scripted(*[httpx.Response(503)] * 3)
    with pytest.raises(RemoteError, match="did not answer in 3 tries: status 503: nothing more was said"):
        server.api(retries=2)(images(1))
    assert len(server.slept) == 2


def test_work_is_done():
    asked = httpx.Response(428, headers={"X-Work-Challenge": "10:abc"})
    server = Scripted(asked)
    server.api()(images(1))
    solution = server.headers[1]["x-work-solution"]
    assert int.from_bytes(hashlib.sha256(b"abc" + solution.encode()).digest(), "big") >> 246 == 0
    for puzzle in ("x:abc", "64:abc", ""):
        with pytest.raises(RemoteError):
            solved(puzzle)


@pytest.mark.parametrize(
    "does",
    [
        httpx.Response(200, content=b"hello"),
        httpx.Response(200, json={"outputs": []}),
        httpx.Response(200, json={"outputs": [{"name": "posterior", "datatype": "FP32", "shape": [9, 3], "data": []}]}),
    ],
)
def test_what_cannot_be_read_is_an_error_at_once(does):
    server = Scripted(does)
    with pytest.raises(RemoteError, match="answered what cannot be read"):
        server.api()(images(1))


def test_a_server_that_does_not_describe_its_model_is_refused():
    for body in (b"<html>", b"{}", b"[]", b'{"inputs": [], "outputs": []}'):
        transport = httpx.MockTransport(lambda request, body=body: httpx.Response(200, content=body))
        with pytest.raises(RemoteError, match="does not describe a model of images"):
            RemoteAPI("http://there", "m", transport=transport)(images(1))
    transport = httpx.MockTransport(lambda request: httpx.Response(404, json={"detail": "x"}))
    with pytest.raises(RemoteError, match="status 404"):
        RemoteAPI("http://there", "m", transport=transport)(images(1))


def test_an_address_that_is_none_is_refused():
    for url in ("there:8000", "ftp://there", "http://[", "http://", "http://a b", ""):
        with pytest.raises(ValueError, match="url is"):
            RemoteAPI(url, "m")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service with a random defense."""
    with servers.running(tmp_path_factory.mktemp("remote"), servers.policy(RandomNoise(0.5))) as found:
        yield found


def test_a_theft_over_http_is_the_local_one_bit_for_bit(service):
    victim = smallworld.victim()
    local = BlackBox(victim.network, victim.params, servers.policy(RandomNoise(0.5)), servers.KEY, 4).api()
    remote = RemoteAPI(service.url, "stripes", key=service.keys["alice"], batch=50)
    pool = smallworld.pool().images.astype(np.float32) / 255
    sets = [attacks.collect(jax.random.key(1), attacks.Knockoff(), pool, api, budget=100) for api in (local, remote)]
    jax.tree.map(np.testing.assert_array_equal, *sets)
    # The same image in another type is no second look at it.
    np.testing.assert_array_equal(remote(smallworld.pool().images[:9]), remote(pool[:9]))
    assert service.parts.ledger.spent("alice") == 118
    remote.close()


def test_work_that_a_service_asks_for_is_done(tmp_path):
    served = servers.policy(chain(), ProofOfWork(4), thresholds=(0.2,))
    with servers.running(tmp_path, served) as server:
        server.ask(servers.alike(8))
        assert server.ask(servers.images(1)).status_code == 428
        api = RemoteAPI(server.url, "stripes", key=server.keys["alice"])
        assert api(servers.images(20)).shape == (20, 4)
        api.close()
        assert server.parts.ledger.spent("alice") == 28


def test_a_key_that_is_wrong_and_a_budget_that_is_spent_end_it(tmp_path):
    with servers.running(tmp_path, limits=Limits(total=10)) as server:
        wrong = RemoteAPI(server.url, "stripes", key="pp_wrong")
        with pytest.raises(RemoteError, match="status 401"):
            wrong(servers.images(1))
        api = RemoteAPI(server.url, "stripes", key=server.keys["alice"], batch=5)
        with pytest.raises(PartlyAnswered, match="answers no more") as caught:
            api(servers.images(12))
        assert caught.value.answers.shape == (10, 4)
        with pytest.raises(RemoteError, match="answers no more"):
            api(servers.images(12))
        assert server.parts.ledger.spent("alice") == 10
        api.close()
        wrong.close()
