"""API keys: random, kept as hashes in a TOML file that is read again whenever it changes."""

import dataclasses
import hashlib
import logging
import os
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LOG = logging.getLogger(__name__)
_PREFIX = "pp_"
_OPTIONS = {"sha256": str, "trusted": bool, "budget": int, "rate": int}


@dataclasses.dataclass(frozen=True)
class Principal:
    """Who a key belongs to.

    Attributes:
        name: of the account.
        trusted: neither defended, watched nor metered: the defender's own evaluation.
        budget: images in all; None for the service's default.
        rate: images per window; None for the service's default.
    """

    name: str
    trusted: bool = False
    budget: int | None = None
    rate: int | None = None


class Keys:
    """The keys of a file; one that cannot be read leaves the old keys in force, with one line in the log.

    Args:
        path: the file.

    Raises:
        ValueError: for a file that cannot be read at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self._known = read(path)

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._known)

    def find(self, key: str) -> Principal | None:
        """Who a key belongs to; None for one that is unknown.

        What is looked up is the key's hash, so the time that it takes tells nothing of a key.
        """
        self._refresh()
        return self._known.get(digest(key))

    def _refresh(self) -> None:
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._known = read(self._path)
        except ValueError as error:
            _LOG.error("the keys stay as they were: %s", error)
        else:
            _LOG.info("%d keys read again from %s", len(self._known), self._path)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def read(path: Path) -> Mapping[str, Principal]:
    """The principals of a file by the hash of their key.

    Raises:
        ValueError: for a file that is not there, is no TOML, or has entries that are no keys; nothing secret is told.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"the keys file {path} cannot be read ({error}): make one with {_HINT}") from error
    found: dict[str, Principal] = {}
    for name, entry in content.items():
        principal, hashed = _principal(name, entry, path)
        if hashed in found:
            raise ValueError(f"{path}: {name} has the key of {found[hashed].name}; each account needs one of its own")
        found[hashed] = principal
    return found


_HINT = "python -m pp_jax.service key NAME --keys FILE"


def _principal(name: str, entry: Any, path: Path) -> tuple[Principal, str]:
    """One account of a file, and its hash."""
    if not isinstance(entry, dict):
        raise ValueError(f"{path}: {name} must be a table [{name}] with sha256, made with {_HINT}")
    for option, value in entry.items():
        kind = _OPTIONS.get(option)
        if kind is None:
            raise ValueError(f"{path}: {name} has the unknown option {option!r}: must be one of {', '.join(_OPTIONS)}")
        if type(value) is not kind:
            raise ValueError(f"{path}: {option} of {name} must be {kind.__name__}, not {type(value).__name__}")
    if not _plain(name):
        raise ValueError(f"{path}: the name {name!r} must be letters, digits, - and _")
    hashed = entry.get("sha256", "")
    if len(hashed) != 64 or set(hashed) - set("0123456789abcdef"):
        raise ValueError(f"{path}: sha256 of {name} must be 64 hexadecimal digits, made with {_HINT}")
    if min(entry.get("budget", 0), entry.get("rate", 0)) < 0:
        raise ValueError(f"{path}: budget and rate of {name} must be at least 0")
    options = {option: value for option, value in entry.items() if option != "sha256"}
    return Principal(name, **options), hashed


def _plain(name: str) -> bool:
    """Whether an account may have this name."""
    return name.isascii() and name.replace("-", "").replace("_", "").isalnum()


def digest(key: str) -> str:
    """The hash that is kept of a key: SHA-256, enough for 256 random bits, which nobody can try."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def add(path: Path, principal: Principal) -> str:
    """Make a key for a new account, add its hash to a file, and return the key: it is shown once and kept nowhere.

    Raises:
        ValueError: for a name that is taken or no plain word, or a file that cannot be read.
    """
    if not _plain(principal.name):
        raise ValueError(f"the name {principal.name!r} must be letters, digits, - and _")
    if path.exists() and any(known.name == principal.name for known in read(path).values()):
        raise ValueError(
            f"{path} has a key for {principal.name} already: remove its table first, or choose another name"
        )
    key = _PREFIX + secrets.token_urlsafe(32)
    lines = [f"[{principal.name}]", f'sha256 = "{digest(key)}"']
    lines += ["trusted = true"] if principal.trusted else []
    lines += [f"{name} = {value}" for name in ("budget", "rate") if (value := getattr(principal, name)) is not None]
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.write("\n".join([*lines, "", ""]))
    return key
