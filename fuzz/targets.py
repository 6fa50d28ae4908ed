"""The readers that are tried: each takes bytes and an empty folder, and ends in a value or in an error of its own."""

import contextlib
import dataclasses
import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from fuzz import mutation, mutation_of_text, seeds, seeds_of_kept
from pp_jax.data import catalog, checks, manifest
from pp_jax.data.files import open_files
from pp_jax.data.types import DataError
from pp_jax.results.records import canonical, exporting, flat
from pp_jax.results.records.record import Damaged, load

_SUFFIXES = {
    b"\x1f\x8b": ".tar.gz", b"BZh": ".tar.bz2", b"\xfd7z": ".tar.xz", b"\x89PNG": ".png", b"\xff\xd8": ".jpg",
    b"RIFF": ".webp", b"BM": ".bmp", b"GIF": ".gif", b"II": ".tif", b"MM": ".tif", b"P": ".ppm",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        read: runs it on bytes, in an empty folder.
        seeds: whole and almost whole inputs that mutation starts from.
        mutate: changes an input where it matters, beside what the fuzzer does of itself.
        refusals: the errors that it may raise.
        memory_mb: what the process may take in all; what Pillow holds of a picture within its limit is 2 GB.
    """

    read: Callable[[bytes, Path], None]
    seeds: Callable[[], Iterable[bytes]]
    mutate: mutation.Mutator | None = None
    refusals: tuple[type[BaseException], ...] = (DataError,)
    memory_mb: int = 1024

    def warm_up(self, folder: Path) -> None:
        """Read a seed in a new folder, so that no case is charged with imports."""
        folder.mkdir()
        with contextlib.suppress(*self.refusals):
            self.read(next(iter(self.seeds())), folder)


def _suffix(data: bytes, default: str) -> str:
    """The file ending that goes with the first bytes."""
    return next((suffix for magic, suffix in _SUFFIXES.items() if data.startswith(magic)), default)


def _read_set(name: str, source: Path, size: int | None = None) -> None:
    """What `prepare NAME --from SOURCE` does before it writes, but for the number of images."""
    spec = dataclasses.replace(catalog.find(name), counts=None)
    assert spec.read is not None
    files = open_files(source)
    raw = spec.read(files) if size is None else spec.read(files, size=size)
    raw, names = checks.normalise(spec, raw, whole=False)
    assert len(set(names)) == len(names)
    for images, labels in raw.splits.values():
        assert images.dtype == np.uint8
        assert labels.dtype == np.int32
        assert images.ndim == 4
        assert labels.shape == images.shape[:1]
        assert not len(labels) or 0 <= labels.min() <= labels.max() < len(names)


def idx(data: bytes, folder: Path) -> None:
    """IDX files, plain and gzipped, in an archive."""
    (folder / "set.zip").write_bytes(data)
    _read_set("mnist", folder / "set.zip")


def mat(data: bytes, folder: Path) -> None:
    """A MATLAB file."""
    (folder / "train_32x32.mat").write_bytes(data)
    _read_set("svhn_cropped", folder)


def npz(data: bytes, folder: Path) -> None:
    """A NumPy archive."""
    (folder / "set.npz").write_bytes(data)
    _read_set("notmnist", folder / "set.npz")


def csv(data: bytes, folder: Path) -> None:
    """MNIST as a table."""
    (folder / "train.csv").write_bytes(data)
    _read_set("mnist", folder / "train.csv")


def npy(data: bytes, folder: Path) -> None:
    """Images as one array, with labels beside them."""
    (folder / "train_images.npy").write_bytes(data)
    np.save(folder / "train_labels.npy", np.arange(2))
    _read_set("mnist", folder)


def keras(data: bytes, folder: Path) -> None:
    """MNIST as a NumPy archive."""
    (folder / "mnist.npz").write_bytes(data)
    _read_set("mnist", folder / "mnist.npz")


def cifar(data: bytes, folder: Path) -> None:
    """CIFAR's binary files or images in an archive."""
    (folder / "set.zip").write_bytes(data)
    _read_set("cifar10", folder / "set.zip")


def picture(data: bytes, folder: Path) -> None:
    """One picture, in grey and in colour."""
    (folder / "a").mkdir()
    (folder / "a" / f"1{_suffix(data, '.png')}").write_bytes(data)
    _read_set("notmnist", folder, size=28)
    _read_set("caltech_birds2011", folder, size=8)


def photographs(name: str, size: int) -> Callable[[bytes, Path], None]:
    """An image folder in an archive, with the tables that belong to a set."""

    def read(data: bytes, folder: Path) -> None:
        (folder / "set.zip").write_bytes(data)
        _read_set(name, folder / "set.zip", size=size)

    return read


def archive(data: bytes, folder: Path) -> None:
    """Every file of an archive."""
    path = folder / f"set{'.zip' if data[:2] == b'PK' else _suffix(data, '.tar')}"
    path.write_bytes(data)
    files = open_files(path)
    for name in files.names[:50]:
        files.read(name)


def record_of_set(data: bytes, folder: Path) -> None:
    """The record beside a prepared set."""
    (folder / manifest.NAME).write_bytes(data)
    (folder / "features.json").write_bytes(b"{}")
    content = manifest.read(folder)
    if content is None:
        return
    manifest.check(folder, content, manifest.metadata_of(content))
    manifest.check(folder, content, manifest.files_of(content, "train"))
    manifest.check(folder, content, content["files"])


def torch(data: bytes, folder: Path) -> None:
    """Weights of PyTorch."""
    from pp_jax.models import torch_file

    (folder / "weights.pt").write_bytes(data)
    for name, array in torch_file.read(folder / "weights.pt").items():
        assert isinstance(name, str)
        if array.size:
            # The far corner: a wrong stride reads beyond the file here.
            array[(0,) * array.ndim], array[(-1,) * array.ndim]


def shards(data: bytes, folder: Path) -> None:
    """The index of weights in several files."""
    from pp_jax.models import torch_file

    (folder / "model.safetensors.index.json").write_bytes(data)
    for name in ("1.safetensors", "2.safetensors"):
        (folder / name).write_bytes(next(seeds_of_kept.safetensors()))
    torch_file.read(folder)


def checkpoint(data: bytes, folder: Path) -> None:
    """A checkpoint, and whether its metadata fits a network."""
    from experiments.victims import stored
    from pp_jax import models

    path = folder / "weights.safetensors"
    path.write_bytes(data)
    stored(path, models.lenet(10))


def result(data: bytes, folder: Path) -> None:
    """A record of an experiment, as it is read, listed and exported."""
    path = folder / f"{_name_of(data)}.json"
    path.write_bytes(data)
    record = load(path)
    flat.row(record)
    exporting.export(folder / "table.csv", [record])


def _name_of(data: bytes) -> str:
    """The name that the record in a file must have, if there is one in it."""
    try:
        return canonical.name(json.loads(data)["config"])
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return "0123456789abcdef"


def seal(data: bytes, folder: Path) -> None:
    """The seal of a checkpoint of a training."""
    from pp_jax.training import sealing

    place = folder / "own" / "3"
    (place / sealing.STATE).mkdir(parents=True)
    (place / sealing.STATE / "array").write_bytes(b"123")
    (place / "seal.json").write_bytes(data)
    with warnings.catch_warnings(record=True) as told:
        # A damaged checkpoint is passed over with a warning.
        warnings.simplefilter("always")
        sealing.newest_whole(folder / "own", seeds_of_kept.OWNER, most=5)
    assert all(str(warning.message).isprintable() for warning in told)


def mark(data: bytes, folder: Path) -> None:
    """The mark in a folder of the library's own, which says what may be removed there."""
    from pp_jax import _files

    own = folder / "own"
    own.mkdir()
    (own / _files.MARK).write_bytes(data)
    (own / "a.txt").write_bytes(b"1")
    _files.own_folder(own, "notes", holds=(r".*\.txt",))
    _files.remove_own(own)


def journal(data: bytes, folder: Path) -> None:
    """What a prediction API has answered."""
    from pp_jax.serving import journal

    (folder / "queries.journal").write_bytes(data)
    found = journal.read(folder)
    assert found.spent >= 0
    assert 0 <= found.end <= len(data)
    if found.transfer is not None:
        assert len(found.transfer.images) == len(found.transfer.answers)


def wire(data: bytes, folder: Path) -> None:
    """A request over HTTP, in each protocol, and a response; the first line is the header of lengths."""
    from pp_jax.serving import wire

    del folder
    model = wire.Model("m", (2, 2, 1), 3, most=4)
    length, _, body = data.partition(b"\n")
    header = length.decode("latin-1") or None
    readers: tuple[Callable[[], object], ...] = (
        lambda: wire.parse_v2(body, header, model).images,
        lambda: wire.parse_v1(body, model).images,
        lambda: wire.parse_invocations(body, model).images,
        lambda: wire.read_v2(body, header, model, 2),
    )
    for read in readers:
        try:
            found = read()
        except wire.WireError as error:
            # Raised again only if it is not in order, so that the next reader gets its turn.
            if not str(error).isprintable() or len(str(error)) > 1000:
                raise
            continue
        assert isinstance(found, np.ndarray)
        assert np.isfinite(found).all()


_PICTURES = 3072
# The fuzzer itself keeps about 1.5 kB a case; a million are asked of this one.
_MANY = 4096

TARGETS = {
    "idx": Target(idx, seeds.idx, mutation.in_zip(mutation.numbers)),
    "mat": Target(mat, seeds.mat, mutation.in_mat),
    "npz": Target(npz, seeds.npz, mutation.in_zip(mutation.numbers)),
    "keras": Target(keras, seeds.keras, mutation.in_zip(mutation.numbers)),
    "npy": Target(npy, seeds.npy, mutation.numbers),
    "csv": Target(csv, seeds.csv, mutation_of_text.cells),
    "cifar": Target(cifar, seeds.cifar, mutation.in_zip(mutation.in_png), memory_mb=_PICTURES),
    "picture": Target(picture, seeds.picture, mutation.in_png, memory_mb=_PICTURES),
    "folder": Target(photographs("notmnist", 28), seeds.folder, mutation.in_zip(mutation.in_png), memory_mb=_PICTURES),
    "tiny_imagenet": Target(
        photographs("tiny_imagenet", 64), seeds.tiny_imagenet, mutation.in_zip(), memory_mb=_PICTURES
    ),
    "birds": Target(photographs("caltech_birds2011", 8), seeds.birds, mutation.in_zip(), memory_mb=_PICTURES),
    "zip": Target(archive, seeds.zips, mutation.in_zip()),
    "tar": Target(archive, seeds.tars, mutation.in_tar),
    "manifest": Target(record_of_set, seeds_of_kept.manifest, mutation_of_text.in_json),
    "torch_zip": Target(torch, seeds_of_kept.torch_zip, mutation.in_zip(mutation.in_pickle), (ValueError,)),
    "torch_old": Target(torch, seeds_of_kept.torch_old, mutation.in_pickle, (ValueError,)),
    "safetensors": Target(torch, seeds_of_kept.safetensors, mutation_of_text.in_safetensors, (ValueError,)),
    "shards": Target(shards, seeds_of_kept.shards, mutation_of_text.in_json, (ValueError,)),
    "checkpoint": Target(checkpoint, seeds_of_kept.checkpoint, mutation_of_text.in_checkpoint, (ValueError,)),
    "record": Target(result, seeds_of_kept.record, mutation_of_text.in_record, (Damaged, ValueError)),
    "seal": Target(seal, seeds_of_kept.seal, mutation_of_text.in_json, (ValueError,)),
    "mark": Target(mark, seeds_of_kept.mark, mutation_of_text.in_json, (ValueError,)),
    "wire": Target(wire, seeds_of_kept.wire, mutation_of_text.in_request, (ValueError,), memory_mb=_MANY),
    "journal": Target(journal, seeds_of_kept.journal, mutation_of_text.in_journal, (ValueError,)),
}
