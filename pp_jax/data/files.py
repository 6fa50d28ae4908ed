"""Folders, archives and single files read alike: names in, bytes out, nothing unpacked to disk."""

import dataclasses
import functools
import os
import posixpath
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from pp_jax.data.archives import open_archive, stem
from pp_jax.data.packed import broken, unpack
from pp_jax.data.phrases import counted, shown, why
from pp_jax.data.types import DataError, DatasetCorrupt, SourceUnavailable

_PACKED = (".gz", ".bz2", ".xz", ".zst")
_TOOLS = {
    *("__macosx", "__pycache__", "@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "recycler"),
    *("lost+found", "system volume information", "network trash folder", "temporary items"),
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"),
}
_DEPTH = 3


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of a source.

    Attributes:
        origin: where they are, for messages.
        names: their names relative to the origin, sorted, with forward slashes.
        read_raw: the bytes of one name, as stored.
        folders: the folders that hold no file.
        left_out: what is there but not among the names, and why: a phrase each, as in `Raw.left_out`.
    """

    origin: str
    names: tuple[str, ...]
    read_raw: Callable[[str], bytes]
    folders: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def read(self, name: str) -> bytes:
        """The bytes of one file, unpacked if they are packed with gzip, bzip2, xz or Zstandard.

        Raises:
            DatasetCorrupt: if the file is truncated or damaged, or cannot be read.
        """
        try:
            return unpack(self.read_raw(name), self.where(name))
        except DataError:
            raise
        except broken() as error:
            raise _damaged(self.where(name), error) from error

    def text(self, name: str) -> str:
        """The text of one file, without a byte order mark.

        Raises:
            DatasetCorrupt: if it is not UTF-8, or as `read`.
        """
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DatasetCorrupt(f"{self.where(name)} is not text in UTF-8 ({why(error)}): convert it") from error

    def where(self, name: str) -> str:
        """The full name of a file, for messages."""
        return shown(self.origin if name == PurePosixPath(self.origin).name else f"{self.origin}/{name}")

    def find(self, *suffixes: str) -> str | None:
        """The name that ends with one of the suffixes, also if it is packed (.gz, …); None if there is none.

        Of several that hold the same, such as a packed file beside the unpacked one, the first is taken.

        Raises:
            DatasetCorrupt: if several do that differ.
        """
        found = [name for name in self.names if unpacked_name(name).endswith(suffixes)]
        if len(found) > 1 and len({self.read(name) for name in found}) > 1:
            raise DatasetCorrupt(
                f"{self.origin} holds several files that end with {suffixes[0]}: {', '.join(map(shown, found[:3]))}"
            )
        return found[0] if found else None


def unpacked_name(name: str) -> str:
    """A file's name without the suffix that says how it is packed."""
    return next((name.removesuffix(suffix) for suffix in _PACKED if name.endswith(suffix)), name)


def open_files(path: Path, *, nested: bool = True) -> Files:
    """List the files of a folder, an archive or one plain file; what a file is is told from its content.

    Left out are hidden files and those of tools, such as `.git`, `.ipynb_checkpoints`, `__MACOSX` and `@eaDir`. Links
    are followed. An archive within a folder or an archive counts as a folder of its name.

    Args:
        path: a folder; a zip or tar archive, also packed with gzip, bzip2, xz or Zstandard; any other file.
        nested: whether archives within it are opened too.

    Raises:
        SourceUnavailable: if there is nothing at `path`.
        DatasetCorrupt: if an archive is truncated, damaged, encrypted, or of a kind that is not read.
    """
    if not path.is_dir() and not path.is_file():
        raise SourceUnavailable(f"there is no file or folder {path}")
    try:
        return _folder(path, nested) if path.is_dir() else _file(path, str(path), path.name, _DEPTH if nested else 0)
    except DataError:
        raise
    except broken() as error:
        raise _damaged(str(path), error) from error


def only(files: Files, prefix: str) -> Files:
    """The files whose names start with `prefix`."""
    return dataclasses.replace(files, names=tuple(name for name in files.names if name.startswith(prefix)))


def merge(origin: str, parts: dict[str, bytes]) -> Files:
    """Files from bytes in memory, by name."""
    return _listed(origin, parts, parts.__getitem__)


def hidden(name: str) -> str:
    """The first folder or file on the way to `name` that is hidden or a tool's own; empty if there is none."""
    at = 0
    for part in name.split("/"):
        at += len(part) + 1
        if part.startswith(".") or part.lower() in _TOOLS:
            return name[: at - 1]
    return ""


def _listed(
    origin: str,
    names: Iterable[str],
    read: Callable[[str], bytes],
    folders: Iterable[str] = (),
    left_out: Iterable[str] = (),
) -> Files:
    """Files without what is hidden, which is told instead."""
    veiled = {name: hidden(name) for name in names}
    tools = sorted({where for where in veiled.values() if where})
    kept = tuple(sorted(name for name, where in veiled.items() if name and not where))
    parents = {name[:end] for name in kept for end in _slashes(name)}
    empty = tuple(sorted(folder for folder in folders if folder and folder not in parents and not hidden(folder)))
    told = counted(tools, "hidden file or folder", "hidden files and folders")
    return Files(origin, kept, read, empty, (*left_out, *told))


def _slashes(name: str) -> list[int]:
    """Where the folders of a name end."""
    return [place for place, letter in enumerate(name) if letter == "/"]


def _damaged(where: str, error: Exception) -> DatasetCorrupt:
    """The error of a file that cannot be read whole."""
    return DatasetCorrupt(f"{shown(where)} is truncated or damaged ({why(error)}): fetch it again")


def _file(source: Path | bytes, where: str, name: str, depth: int) -> Files:
    """The files of an archive, or one plain file."""
    archive = None if name.endswith(".npz") else open_archive(source, where)
    if archive is None:
        data = source
        return Files(where, (name,), lambda _: data.read_bytes() if isinstance(data, Path) else data)
    files = _listed(where, archive.names, archive.read, archive.folders, archive.left_out)
    if depth == 0:
        return files
    return _with_inner(files, lambda inner: _file(files.read_raw(inner), f"{where}/{inner}", inner, depth - 1))


def _folder(path: Path, nested: bool) -> Files:
    """The files below a folder."""
    names: list[str] = []
    folders: list[str] = []
    hidden_ones: list[str] = []
    dead: list[str] = []

    def walk(place: Path, prefix: str, above: tuple[str, ...]) -> None:
        for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
            name = prefix + entry.name
            if hidden(entry.name):
                hidden_ones.append(name)
            elif entry.is_file():
                names.append(name)
            elif not entry.is_dir() or (entry.is_symlink() and os.path.realpath(entry.path) in above):
                dead.append(name)
            else:
                folders.append(name)
                walk(Path(entry.path), f"{name}/", (*above, os.path.realpath(entry.path)))

    walk(path, "", (os.path.realpath(path),))
    left_out = counted(
        dead, "link or special file that leads to no file", "links or special files that lead to no file"
    )
    files = _listed(str(path), [*names, *hidden_ones], lambda name: (path / name).read_bytes(), folders, left_out)
    if not nested:
        return files
    return _with_inner(files, lambda inner: _file(path / inner, f"{path}/{inner}", inner, _DEPTH - 1))


def _with_inner(files: Files, open_inner: Callable[[str], Files]) -> Files:
    """Files with those of the archives among them, each of which is opened when one of its files is read."""
    cached = functools.lru_cache(maxsize=2)(open_inner)
    parents = {name[:end] for name in files.names for end in _slashes(name)}
    places: dict[str, tuple[str, str]] = {}
    opened, double = set(), []
    left_out = list(files.left_out)
    for name in files.names:
        bare = stem(name)
        if bare is None:
            continue
        opened.add(name)
        if bare in parents:
            double.append(name)
            continue
        inner = cached(name)
        own = posixpath.basename(bare) + "/"
        prefix = posixpath.dirname(name) if all(file.startswith(own) for file in inner.names) else bare
        found = {posixpath.join(prefix, file): (name, file) for file in inner.names}
        beside = {posixpath.join(posixpath.dirname(name), file) for file in inner.names}
        if beside and beside <= set(files.names):
            double.append(name)
            continue
        places |= found
        left_out += [f"of {shown(name)}: {phrase}" for phrase in inner.left_out]
    left_out += counted(
        double, "archive that lies unpacked beside itself", "archives that lie unpacked beside themselves"
    )

    def read(name: str) -> bytes:
        if name not in places:
            return files.read_raw(name)
        archive, file = places[name]
        return cached(archive).read_raw(file)

    names = sorted({*files.names} - opened | places.keys())
    return dataclasses.replace(files, names=tuple(names), read_raw=read, left_out=tuple(left_out))
