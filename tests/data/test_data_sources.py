"""Sources: bounded when there is no network, checked when there is, and clear about what failed."""

import functools
import hashlib
import http.server
import socket
import sys
import threading
import time

import numpy as np
import pytest

from pp_jax.data import DatasetCorrupt, SourceUnavailable, load, prepare, sources
from pp_jax.data.sources import Remote
from pp_jax.data.types import quiet

CONTENT = b"what the authors published" * 100


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that does not log."""

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a local file server that holds set.bin."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "set.bin").write_bytes(CONTENT)
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """Local addresses are reached directly."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_an_official_file_is_downloaded_and_checked(server, tmp_path):
    remote = Remote(f"{server}/set.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    files = sources.official(remote).fetch(tmp_path, quiet)
    assert files.read("set.bin") == CONTENT


@pytest.mark.parametrize(
    ("size", "digest"), [(len(CONTENT), "0" * 64), (len(CONTENT) + 1, None), (len(CONTENT) - 1, None)]
)
def test_a_file_that_is_not_the_official_one_is_refused(server, tmp_path, size, digest):
    with pytest.raises(DatasetCorrupt, match="not the official file"):
        sources.download(Remote(f"{server}/set.bin", size, digest), tmp_path / "set.bin", quiet)


def test_a_file_that_is_gone_is_one_clear_error(server, tmp_path):
    with pytest.raises(SourceUnavailable, match=r"absent\.bin could not be fetched .*404"):
        sources.download(Remote(f"{server}/absent.bin", 1, None), tmp_path / "absent.bin", quiet)


def look_up_for_ever(address, timeout):
    """A name look-up, which knows no time-out."""
    time.sleep(4.0)
    raise OSError("name not known")


def test_a_machine_without_network_loses_only_the_connect_time_out(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "CONNECT_S", 0.2)
    monkeypatch.setattr(socket, "create_connection", look_up_for_ever)
    before = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"no connection to example\.invalid"):
        sources.download(Remote("https://example.invalid/a", 1, None), tmp_path / "a", quiet)
    assert time.monotonic() - before < 3


def test_a_proxy_is_what_must_be_reachable(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    assert sources._address("https://example.invalid/a") == ("proxy.invalid", 3128)
    monkeypatch.setenv("no_proxy", "example.invalid")
    assert sources._address("https://example.invalid/a") == ("example.invalid", 443)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ((sys.executable, "-c", "import sys; sys.exit('ERROR: no such package')"), "pip failed .*no such package"),
        (("a-command-that-does-not-exist",), "pip did not finish"),
    ],
)
def test_a_command_that_fails_is_one_clear_error_with_its_cure(tmp_path, command, message):
    with pytest.raises(SourceUnavailable, match=f"{message}.*; try this"):
        sources.run_quietly(command, tmp_path, "pip", "; try this")


def test_an_installed_debian_package_is_read_where_it_is(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"")
    files = sources.debian_package("dataset", tmp_path).fetch(tmp_path, quiet)
    assert files.names == ("train-images-idx3-ubyte.gz",)


def test_a_machine_without_apt_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SourceUnavailable, match="no apt-get"):
        sources.debian_package("dataset", tmp_path / "absent").fetch(tmp_path, quiet)


@pytest.mark.slow
@pytest.mark.network
def test_mnist_is_prepared_from_what_is_on_hand_and_is_the_official_set(tmp_path):
    said: list[str] = []
    directory = prepare("mnist", data_dir=tmp_path, report=said.append)
    assert '"official": true' in (directory / "pp_jax.json").read_text()
    train, test = (load("mnist", split, data_dir=tmp_path) for split in ("train", "test"))
    assert (len(train), len(test)) == (60_000, 10_000)
    np.testing.assert_array_equal(train.labels[:8], [4, 1, 0, 7, 8, 1, 2, 7])
    assert round(float(train.images.mean()) / 255, 4) == 0.1307
