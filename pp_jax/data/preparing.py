"""Prepare a set: fetch, check, write to one side, read back, check again, rename into place."""

import contextlib
import dataclasses
import datetime
import fcntl
import functools
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pp_jax import _files
from pp_jax.data import catalog, checks, location, manifest, store
from pp_jax.data.files import Files, open_files
from pp_jax.data.spec import Spec
from pp_jax.data.types import DataError, DatasetCorrupt, Raw, Report, SourceUnavailable, Track, quiet, silent

_PACKAGES = ("tensorflow-datasets", "array_record", "numpy", "pillow", "matplotlib")


def prepare(
    name: str | Spec,
    *,
    source: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    size: int | None = None,
    force: bool = False,
    report: Report = quiet,
    track: Track = silent,
) -> Path:
    """Prepare a set in TFDS's format, or find it prepared already.

    The set is written beside its place and renamed into it when everything has been checked, so a set that is there
    is whole; of several processes that prepare one set, one works and the others wait for it.

    Args:
        name: a name of the catalogue, such as "mnist" (or a `Spec` of one's own).
        source: a file, folder or archive to read from, in place of the set's own sources.
        data_dir: $TFDS_DATA_DIR, else ~/tensorflow_datasets, by default.
        size: side to which an image folder's images are cropped and resampled; None leaves them as they are.
        force: prepare again what this library has prepared already; what TFDS prepared is never replaced.
        report: is told where the set came from and where it went, a sentence at a time.
        track: shows progress.

    Returns:
        The directory of the prepared set.

    Raises:
        DataError: the set is unknown, no source delivers it, the source is damaged or is another set, the data
            directory cannot be written to, or something that this library did not write lies in the set's place.
            Nothing is left behind then.
    """
    spec = name if isinstance(name, Spec) else catalog.find(name)
    source = None if source is None else _files.expanded(source)
    _check_options(spec, source, size)
    root = location.data_dir(data_dir)
    location.make_writable(root)
    with _alone(root, spec, report) as work:
        present = location.prepared(root, spec.name)
        if present is not None and not force and location.file_format(present) == "array_record":
            report(f"{spec.name} is prepared already in {present}")
            return present
        final = root / spec.name / spec.version
        location.check_replaceable(final, spec.name)
        raw, origin = _obtain(spec, source, size, work, report, track)
        raw, class_names = checks.normalise(spec, raw, whole=source is None)
        _check_space(root, raw)
        directory = store.write(spec, raw, class_names, work / "new", track)
        _finish(spec, raw, origin, directory, track)
        _swap(directory, final, work / "old")
    report("; ".join((f"prepared {spec.name}: {_counts(raw)}, from {origin} in {final}", *_remarks(raw))))
    return final


def _counts(raw: Raw) -> str:
    """Images and classes of every split, such as "60000 train images of 10 classes"."""
    counts = {split: (len(labels), len(np.unique(labels))) for split, (_, labels) in raw.splits.items()}
    return ", ".join(
        f"{images} {split} image{'s' * (images != 1)} of {classes} class{'es' * (classes != 1)}"
        for split, (images, classes) in counts.items()
    )


def _remarks(raw: Raw) -> tuple[str, ...]:
    """What should be known about the source, and what of it was left out."""
    left_out = f"left out: {', '.join(raw.left_out)}" if raw.left_out else ""
    return tuple(filter(None, (raw.note, left_out)))


def _check_options(spec: Spec, source: str | os.PathLike[str] | None, size: int | None) -> None:
    """Refuse options that do not apply, before any work."""
    if source is not None and spec.read is None:
        raise DataError(f"{spec.name} is made, not read: prepare it without --from")
    if source is not None and not Path(source).exists():
        raise SourceUnavailable(f"there is no file or folder {source}")
    if size is not None and not spec.resizable:
        raise DataError(f"--size does not apply to {spec.name}, whose images all have one size")
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1 pixel, not {size}")
    if source is None and spec.make is None and not spec.origins:
        raise _needs_files(spec)


def _needs_files(spec: Spec, tried: str = "") -> SourceUnavailable:
    """The error of a set whose files only the user can give."""
    why = f"no source delivered {spec.name} ({tried})" if tried else f"{spec.name} has no source of its own"
    return SourceUnavailable(f"{why}; give {spec.accepts} with: python -m pp_jax.data prepare {spec.name} --from PATH")


@contextlib.contextmanager
def _alone(root: Path, spec: Spec, report: Report) -> Iterator[Path]:
    """Hold the set's lock and an empty working folder, which is deleted afterwards.

    The kernel drops the lock when its holder dies, so what a killed process left can be cleared away by the next one.
    """
    stem = spec.name.replace("/", "--")
    work = root / f".{stem}.incomplete"
    with (root / f".{stem}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another process is preparing {spec.name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _obtain(
    spec: Spec, source: str | os.PathLike[str] | None, size: int | None, work: Path, report: Report, track: Track
) -> tuple[Raw, str]:
    """The arrays, and where they came from: the path given, else the first source that delivers."""
    if spec.make is not None:
        return spec.make(track), "the library itself"
    assert spec.read is not None
    read = spec.read if size is None else functools.partial(spec.read, size=size)
    if source is not None:
        return _read(read, open_files(Path(source))), os.fspath(Path(source).absolute())
    failures = []
    for origin in spec.origins:
        with tempfile.TemporaryDirectory(dir=work) as folder:
            try:
                return _read(read, origin.fetch(Path(folder), report)), origin.title
            except (SourceUnavailable, DatasetCorrupt) as error:
                failures.append(f"{origin.title}: {error}")
                report(failures[-1])
    raise _needs_files(spec, "; ".join(failures))


def _read(read: Callable[[Files], Raw], files: Files) -> Raw:
    """The arrays of a source, with what was left out when its files were listed."""
    raw = read(files)
    return dataclasses.replace(raw, left_out=tuple(dict.fromkeys((*files.left_out, *raw.left_out))))


def _check_space(root: Path, raw: Raw) -> None:
    """Refuse to start writing what will not fit: records and decoded arrays, at most the pixels twice."""
    needed = sum(2 * images.nbytes + 200 * len(images) for images, _ in raw.splits.values())
    free = shutil.disk_usage(root).free
    if free < needed:
        raise DataError(
            f"the disk of {root} has {free / 1e6:.0f} MB free, but {needed / 1e6:.0f} MB are needed: "
            "choose another with --data-dir"
        )


def _finish(spec: Spec, raw: Raw, origin: str, directory: Path, track: Track) -> None:
    """Read the written set back, compare it with the source, and add decoded arrays and record."""
    builder = store.open_prepared(directory)
    (directory / manifest.DECODED).mkdir()
    splits: dict[str, Any] = {}
    for split, source in raw.splits.items():
        images, labels = store.decode(builder, split, track)
        digest = manifest.arrays_digest(images, labels)
        if digest != manifest.arrays_digest(*source):
            raise DataError(f"{spec.name} {split} read back from disk is not what was written: is the disk faulty?")
        for what, array in (("images", images), ("labels", labels)):
            np.save(directory / manifest.DECODED / f"{split}_{what}.npy", array, allow_pickle=False)
        official = digest == spec.digests[split] if split in spec.digests else None
        splits[split] = {"count": len(labels), "sha256": digest, "official": official}
    content = {
        "name": spec.name,
        "version": spec.version,
        "about": spec.about,
        "source": origin,
        "note": raw.note,
        "left_out": list(raw.left_out),
        "shape": list(next(iter(raw.splits.values()))[0].shape[1:]),
        "num_classes": len(store.class_names(builder)),
        "splits": splits,
        "prepared": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "packages": {package: importlib.metadata.version(package) for package in _PACKAGES},
    }
    manifest.write(directory, content)


def _swap(new: Path, final: Path, old: Path) -> None:
    """Rename a finished directory into place; what was there goes aside first."""
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():
        final.rename(old)
    new.rename(final)
