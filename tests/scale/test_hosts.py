"""Two processes that know of each other through `jax.distributed`, over loopback."""

import socket

import pytest

import children

pytestmark = pytest.mark.slow  # two processes begin by importing JAX


def _free_port():
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def hosts():
    """What two hosts of two devices found."""
    port = _free_port()
    processes = [children.start("hosts.py", port, number, devices=2) for number in range(2)]
    return children.results(*processes, timeout=120)


def test_both_hosts_see_all_devices_and_have_their_own(hosts):
    assert [host["devices"] for host in hosts] == [[4, 2], [4, 2]]


@pytest.mark.parametrize("what", ["perturb", "black_box", "audit", "stream"])
def test_the_rows_of_every_host_are_answered_as_by_one_process(hosts, what):
    assert max(host[what] for host in hosts) <= 1e-6


def test_shares_cover_all_rows(hosts):
    assert [host["own"] for host in hosts] == [[0, 22], [22, 45]]


def test_a_bad_row_of_one_host_is_told_to_all(hosts):
    assert all(host["spoilt"].startswith("posteriors must sum to one: 8 of 16 rows do not;") for host in hosts)


def test_a_stream_over_the_devices_of_several_hosts_is_refused(hosts):
    for host in hosts:
        assert "devices=jax.local_devices()), not of several processes'" in host["refused"]
