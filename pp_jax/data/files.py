"""Folders, archives and single files read alike: names in, bytes out, nothing unpacked to disk."""

import dataclasses
import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from pp_jax.data.types import DatasetCorrupt, SourceUnavailable

_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.ReadError, NotImplementedError)


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of a source.

    Attributes:
        origin: where they are, for messages.
        names: their names relative to the origin, sorted, with forward slashes.
        read_raw: the bytes of one name, as stored.
    """

    origin: str
    names: tuple[str, ...]
    read_raw: Callable[[str], bytes]

    def read(self, name: str) -> bytes:
        """The bytes of one file, gunzipped if need be.

        Raises:
            DatasetCorrupt: if the file is truncated or damaged.
        """
        try:
            data = self.read_raw(name)
            return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        except _BROKEN as error:
            raise DatasetCorrupt(f"{self.where(name)} is truncated or damaged ({error}): fetch it again") from error

    def where(self, name: str) -> str:
        """The full name of a file, for messages."""
        return self.origin if name == PurePosixPath(self.origin).name else f"{self.origin}/{name}"

    def find(self, *suffixes: str) -> str | None:
        """The only name that ends with one of the suffixes, also with .gz; None if there is none.

        Raises:
            DatasetCorrupt: if several do.
        """
        found = [name for name in self.names if name.removesuffix(".gz").endswith(suffixes)]
        if len(found) > 1:
            raise DatasetCorrupt(
                f"{self.origin} holds several files that end with {suffixes[0]}: {', '.join(found[:3])}"
            )
        return found[0] if found else None


def open_files(path: Path) -> Files:
    """List the files of a folder, a tar, tar.gz or zip archive, or of one plain file.

    Raises:
        SourceUnavailable: if there is nothing at `path`.
        DatasetCorrupt: if an archive is truncated or damaged.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise SourceUnavailable(f"there is no file or folder {path}")
    try:
        if zipfile.is_zipfile(path) and path.suffix != ".npz":
            return _zip(path)
        if path.name.endswith((".tar", ".tar.gz", ".tgz")):
            return _tar(path)
    except _BROKEN as error:
        raise DatasetCorrupt(f"{path} is truncated or damaged ({error}): fetch it again") from error
    if path.suffix == ".zip":
        raise DatasetCorrupt(f"{path} is not a whole zip archive: fetch it again")
    return Files(str(path), (path.name,), lambda name: path.read_bytes())


def only(files: Files, prefix: str) -> Files:
    """The files whose names start with `prefix`."""
    return dataclasses.replace(files, names=tuple(name for name in files.names if name.startswith(prefix)))


def merge(origin: str, parts: dict[str, bytes]) -> Files:
    """Files from bytes in memory, by name."""
    return Files(origin, tuple(sorted(parts)), parts.__getitem__)


def _folder(path: Path) -> Files:
    """The files below a folder."""
    names = sorted(item.relative_to(path).as_posix() for item in path.rglob("*") if item.is_file())
    return Files(str(path), tuple(names), lambda name: (path / name).read_bytes())


def _zip(path: Path) -> Files:
    """The members of a zip archive, each read when it is asked for."""
    archive = zipfile.ZipFile(path)
    names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    return Files(str(path), tuple(names), archive.read)


def _tar(path: Path) -> Files:
    """The members of a tar archive, read in one pass, since a compressed tar has no random access."""
    parts: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is not None:
                parts[member.name.removeprefix("./")] = stream.read()
    return merge(str(path), parts)
