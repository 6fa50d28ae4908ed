"""Hostile clients: slow, long, malformed, many; and what a band asks before an answer."""

import contextlib
import socket
import time

import httpx
import pytest

import servers
from pp_jax import chain
from pp_jax.detection import ProofOfWork, Throttled
from pp_jax.service.admission import Gatekeeper, Rejected, worked


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A service with little patience."""
    slow = {"header_s": 0.4, "body_s": 0.4}
    with servers.running(tmp_path_factory.mktemp("hostile"), slow=slow, body_s=0.4, body=20_000) as found:
        yield found


@contextlib.contextmanager
def raw(server):
    """A bare connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        yield connection


def rest(connection):
    """All that comes until the other side closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found


def head(server, *lines, path="/invocations"):
    """A request's head with alice's key."""
    key = f"Authorization: Bearer {server.keys['alice']}"
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", key, *lines, "", ""]).encode()


def test_headers_that_do_not_come_close_the_connection(server):
    for begun in (b"", b"POST /invocations HTTP/1.1\r\nHost:"):
        with raw(server) as connection:
            connection.sendall(begun)
            started = time.monotonic()
            assert rest(connection) == b""
            assert time.monotonic() - started < 5


def test_the_second_request_of_a_connection_is_not_waited_for_longer(server):
    with raw(server) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        found = b""
        while not found.endswith(b"}"):  # head and body may come apart
            found += connection.recv(65536)
        assert found.startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /v2 HT")
        assert rest(connection) == b""


def test_a_body_that_does_not_come_is_refused(server):
    with raw(server) as connection:
        connection.sendall(head(server, "Content-Length: 100") + b"{")
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")


def test_a_body_that_is_trickled_behind_a_refusal_ends(server):
    with raw(server) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n{")
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() < started + 5:
                connection.sendall(b" ")
                time.sleep(0.05)
        assert time.monotonic() < started + 5


def test_a_long_body_is_refused_before_it_is_sent(server):
    with raw(server) as connection:
        connection.sendall(head(server, "Content-Length: 1000000000"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_a_long_body_of_unknown_length_is_refused_while_it_comes(server):
    with raw(server) as connection:
        connection.sendall(head(server, "Transfer-Encoding: chunked"))
        with contextlib.suppress(OSError):
            for _ in range(30):
                connection.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_a_compressed_body_is_refused(server):
    found = server.client().post("/invocations", content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert (found.status_code, list(found.json())) == (415, ["error"])


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 2", "Transfer-Encoding: chunked"),
        ("Content-Length: 2", "Content-Length: 3"),
        ("Content-Length: -1",),
        ("Content-Length: 2x",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding : chunked",),
        ("X-A: a\nX-B: b",),
        ("X-Long: " + "a" * 100_000,),
    ],
)
def test_ambiguous_and_broken_heads_are_refused(server, lines):
    with raw(server) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(head(server, *lines) + b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        found = rest(connection)
    assert found.startswith(b"HTTP/1.1 4") or found == b""
    assert b"HTTP/1.1 404" not in found  # the answer to what was smuggled
    assert server.ask(servers.images(1)).status_code == 200


def test_shapes_past_memory_are_refused_before_anything_of_that_size_exists(server):
    client = server.client()
    for shape in (
        [2**31 - 1, 8, 8, 1],
        [2**62, 8, 8, 1],
        [1, 2**31, 8, 1],
        [-1, 8, 8, 1],
        [0, 8, 8, 1],
        [1e3, 8, 8, 1],
    ):
        tensor = {"name": "image", "shape": shape, "datatype": "FP32", "data": [0.0]}
        found = client.post("/v2/models/stripes/infer", json={"inputs": [tensor]})
        assert found.status_code in (400, 413), shape
        assert list(found.json()) == ["error"]


def test_header_lengths_and_binary_sizes_that_lie_are_refused(server):
    client = server.client()
    for length in ("-1", "1e3", "99999999999", "", "٣"):
        headers = {b"Inference-Header-Content-Length": length.encode()}
        found = client.post("/v2/models/stripes/infer", content=b"{}", headers=headers)
        assert found.status_code == 400, length


def test_thousands_of_wrong_keys_leave_the_service_as_it_was(server):
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for number in range(300):
            answer = client.post("/invocations", content=b"{}", headers={"Authorization": f"Bearer pp_{number}"})
            assert answer.status_code == 401
    assert server.ask(servers.images(1)).status_code == 200
    assert len(server.parts.engine.accounts) <= len(servers.NAMES)


@pytest.mark.slow
def test_ten_thousand_wrong_keys_leave_the_service_as_it_was(server):
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for number in range(10_000):
            answer = client.post("/invocations", content=b"{}", headers={"Authorization": f"Bearer pp_{number}"})
            assert answer.status_code == 401
    assert server.ask(servers.images(1)).status_code == 200
    assert len(server.parts.engine.accounts) <= len(servers.NAMES)


def test_connections_that_say_nothing_make_room_for_those_that_ask(tmp_path):
    with servers.running(tmp_path, connections=5) as server:
        asked = server.client()
        assert asked.get("/v2/health/live").status_code == 200
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
        for each in idle[:-5]:
            each.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""
        assert asked.get("/v2/health/live").status_code == 200
        assert server.ask(servers.images(1)).status_code == 200
        for connection in idle:
            connection.close()


def test_connections_beyond_the_bound_are_refused_where_all_others_are_asking(tmp_path):
    with servers.running(tmp_path, connections=3) as server:
        busy = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        for connection in busy:
            connection.sendall(head(server, "Content-Length: 100") + b"{")
        time.sleep(0.2)
        with raw(server) as late:
            late.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert late.recv(65536).startswith(b"HTTP/1.1 503")
        for connection in busy:
            connection.close()
        time.sleep(0.1)
        assert server.ask(servers.images(1)).status_code == 200


def test_a_client_that_goes_away_is_given_nothing_and_harms_nobody(server):
    with raw(server) as connection:
        connection.sendall(head(server, "Content-Length: 1000") + b"{")
    assert server.ask(servers.images(1)).status_code == 200


def test_a_throttled_account_waits_for_every_image(monkeypatch):
    gate, now = Gatekeeper(b"s"), [100.0]
    monkeypatch.setattr("pp_jax.service.admission.time.monotonic", lambda: now[0])
    gate.permit("a", Throttled(2.0), 5, b"", "")
    with pytest.raises(Rejected) as caught:
        gate.permit("a", Throttled(2.0), 1, b"", "")
    assert (caught.value.code, caught.value.headers) == (429, {"Retry-After": "10"})
    gate.permit("b", Throttled(2.0), 1, b"", "")
    assert not gate.forget("a")
    now[0] += 10
    gate.permit("a", Throttled(2.0), 1, b"", "")


def test_a_throttled_account_is_not_answered_twice_at_the_same_time(tmp_path):
    served = servers.policy(chain(), Throttled(100.0), thresholds=(0.2,))
    with servers.running(tmp_path, served) as server:
        server.ask(servers.alike(8))
        assert server.ask(servers.images(1)).status_code == 200
        again = server.ask(servers.images(1))
        assert (again.status_code, again.json()) == (429, {"error": "too many requests"})
        assert 90 <= int(again.headers["retry-after"]) <= 100
        assert server.parts.ledger.spent("alice") == 9


def test_work_grows_with_the_images_and_is_bound_to_account_and_body():
    gate = Gatekeeper(b"s")

    def challenge(name, images, body):
        with pytest.raises(Rejected) as caught:
            gate.permit(name, ProofOfWork(6), images, body, "")
        assert caught.value.code == 428
        return caught.value.headers["X-Work-Challenge"]

    assert challenge("a", 1, b"x").startswith("6:")
    assert challenge("a", 64, b"x").startswith("12:")
    assert len({challenge(name, 1, body) for name in "ab" for body in (b"x", b"y")}) == 4
    text = challenge("a", 1, b"x").partition(":")[2]
    solution = next(str(n) for n in range(10_000) if worked(text, str(n), 6))
    gate.permit("a", ProofOfWork(6), 1, b"x", solution)
    with pytest.raises(Rejected):
        gate.permit("a", ProofOfWork(6), 1, b"y", solution + "0")
    for wrong in ("", "0" * 65):
        assert not worked(text, wrong, 0)
