"""Zip and tar archives, packed or not: sane names in, bytes out, nothing unpacked to disk."""

import bisect
import contextlib
import dataclasses
import io
import posixpath
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO

from pp_jax.data.packed import HEAD, head_of, limit, packed_as, too_much, unpack_stream
from pp_jax.data.phrases import counted
from pp_jax.data.types import DatasetCorrupt

_SUFFIX = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tzst|tar\.(gz|bz2|xz|zst))$", re.IGNORECASE)
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_UNREAD_MAGIC = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "RAR", b"\x1f\x9d": "compress (.Z)"}
_UNREAD_METHODS = {9: "Deflate64 (as Windows does with files of more than 2 GiB)", 93: "Zstandard", 98: "PPMd"}
_READ_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_MAX_LINK = 4096
_HOPS = 16


@dataclasses.dataclass(frozen=True)
class Archive:
    """The files of an archive.

    Attributes:
        names: relative names with forward slashes.
        read: the bytes of one name.
        folders: the folders that are listed in their own right.
        left_out: what is not among the names, and why.
    """

    names: tuple[str, ...]
    read: Callable[[str], bytes]
    folders: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def stem(name: str) -> str | None:
    """The name of an archive without its suffix; None if it is not called like one."""
    found = _SUFFIX.search(name)
    return name[: found.start()] if found else None


def open_archive(source: Path | bytes, where: str) -> Archive | None:
    """List an archive, whose kind is told from its content.

    Args:
        source: the file, or its bytes.
        where: its name, for messages.

    Returns:
        None if it is no archive.

    Raises:
        DatasetCorrupt: if it is encrypted, of a kind that is not read, or would unpack to more than an image set.
    """
    with _stream(source) as stream:
        size = stream.seek(0, io.SEEK_END)
        head = _restart(stream).read(HEAD)
        if head.startswith(_ZIP_MAGIC):
            return _zip(source, size, where)
        if _is_tar(head) or (stem(where) is not None and head == bytes(HEAD)):
            return _tar(source, size, where)
        unread = next((kind for magic, kind in _UNREAD_MAGIC.items() if head.startswith(magic)), None)
        if unread:
            raise DatasetCorrupt(f"{where} is a {unread} archive, which is not read: unpack it and give the folder")
        kind = packed_as(head)
        if kind and _is_tar(head_of(_restart(stream), kind, where)):
            data = unpack_stream(_restart(stream), kind, size, where)
            return _tar(data, len(data), where)
        if not kind and zipfile.is_zipfile(_restart(stream)):
            return _zip(source, size, where)
    if stem(where) is not None:
        raise DatasetCorrupt(f"{where} is not a whole archive: fetch it again")
    return None


def _stream(source: Path | bytes) -> IO[bytes]:
    """A source as a stream of its own."""
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def _restart(stream: IO[bytes]) -> IO[bytes]:
    """A stream at its start."""
    stream.seek(0)
    return stream


def _zip(source: Path | bytes, size: int, where: str) -> Archive:
    """The members of a zip archive, each read when it is asked for."""
    archive = zipfile.ZipFile(source if isinstance(source, Path) else io.BytesIO(source))
    members: dict[str, zipfile.ZipInfo] = {}
    links: dict[str, str] = {}
    folders, twice = [], []
    for info in archive.infolist():
        name = _zip_name(info)
        if name.endswith("/"):
            folders.append(_sane(name))
            continue
        _check_readable(info, where)
        if stat.S_ISLNK(info.external_attr >> 16) and info.file_size <= _MAX_LINK:
            links[_sane(name)] = _target(_sane(name), archive.read(info).decode("utf-8", "surrogateescape"))
            continue
        if _sane(name) in members:
            twice.append(_sane(name))
        members[_sane(name)] = info
    if sum(info.file_size for info in members.values()) > limit(size):
        raise too_much(where, size)
    return _archive(members, lambda name: archive.read(members[name]), links, folders, twice)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name of a member: with forward slashes, and in UTF-8 where it is that without saying so, as from a Mac."""
    name = info.filename
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _check_readable(info: zipfile.ZipInfo, where: str) -> None:
    """Refuse what the standard library cannot unpack."""
    if info.flag_bits & 1:
        raise DatasetCorrupt(f"{where} is encrypted: unpack it with its password and give the folder")
    if info.compress_type not in _READ_METHODS:
        method = _UNREAD_METHODS.get(info.compress_type, f"method {info.compress_type}")
        raise DatasetCorrupt(f"{where} is packed with {method}, which is not read: unpack it and give the folder")


def _is_tar(head: bytes) -> bool:
    """Whether these are the first 512 bytes of a tar archive: they hold their own checksum."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _tar(source: Path | bytes, size: int, where: str) -> Archive:
    """The members of a tar archive that is not packed, each read when it is asked for."""
    members: dict[str, tarfile.TarInfo] = {}
    links: dict[str, str] = {}
    folders, twice = [], []
    with _stream(source) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            name = _sane(member.name)
            if member.isdir():
                folders.append(name)
            elif member.issym():
                links[name] = _target(name, member.linkname)
            elif member.islnk():
                links[name] = _sane(member.linkname)
            elif member.isfile():
                twice += [name] if name in members else []
                members[name] = member
        stream.seek(archive.offset)
        if stream.read(HEAD) != bytes(HEAD):
            raise DatasetCorrupt(f"{where} is truncated or damaged (its end is missing): fetch it again")
    if sum(member.size for member in members.values()) > limit(size):
        raise too_much(where, size)

    def read(name: str) -> bytes:
        with _stream(source) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            content = archive.extractfile(members[name])
            assert content is not None
            return content.read()

    return _archive(members, read, links, folders, twice)


def _archive(
    names: Collection[str],
    read: Callable[[str], bytes],
    links: Mapping[str, str],
    folders: list[str],
    twice: list[str],
) -> Archive:
    """An archive whose links lead to what they point at."""
    aliases, dead = _resolve(sorted(names), links)
    left_out = (
        *counted(
            twice, "earlier version of a file that is there twice", "earlier versions of files that are there twice"
        ),
        *counted(dead, "link that leads to nothing here", "links that lead to nothing here"),
    )
    real = {name: name for name in names} | aliases
    return Archive(tuple(real), lambda name: read(real[name]), tuple(folders), left_out)


def _resolve(names: list[str], links: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The names that links to files and folders stand for, with the names of what they lead to; the dead links."""
    aliases: dict[str, str] = {}
    dead = []
    known = set(names)
    for name, first in links.items():
        target = first
        for _ in range(_HOPS):
            target = links.get(target, target)
        below = names[bisect.bisect(names, f"{target}/") : bisect.bisect(names, f"{target}0")]
        if target in known:
            aliases[name] = target
        elif below and not f"{name}/".startswith(f"{target}/"):
            aliases |= {name + real.removeprefix(target): real for real in below}
        else:
            dead.append(name)
    return aliases, dead


def _target(name: str, target: str) -> str:
    """What a symbolic link at `name` points at, relative to the archive's root; outside of it nothing is found."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def _sane(name: str) -> str:
    """A relative name without empty parts, drive letters and steps upwards."""
    parts = [part for part in re.sub(r"^[A-Za-z]:/", "", name).split("/") if part not in ("", ".", "..")]
    return "/".join(parts)
