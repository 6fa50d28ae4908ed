"""Inputs that mutation starts from: whole files of every format, made small, and a few that are almost whole."""

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

_PARTS = ("key", "network", "recipe", "loss", "images", "targets", "unlabelled", "params")
OWNER = {"identity": {"seed": 0}, "training": dict.fromkeys(_PARTS, "0123456789abcdef")}
_ONES = np.ones(4, np.float32)


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _zip(parts: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def _tar(parts: Mapping[str, bytes], form: int) -> bytes:
    """A tar archive with a folder, a link and files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, kind in (("set", tarfile.DIRTYPE), ("set/link", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a"
            archive.addfile(info)
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _picture(kind: str, mode: str = "RGB", side: int = 8, **options: object) -> bytes:
    """A picture of noise."""
    file = io.BytesIO()
    noise = Image.fromarray(_rng().integers(0, 256, (side, side, 3), dtype=np.uint8))
    noise.convert(mode).save(file, kind, **options)
    return file.getvalue()


def _npz(compressed: bool = False, **content: np.ndarray) -> bytes:
    """A NumPy archive."""
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **content)
    return file.getvalue()


def idx() -> Iterator[bytes]:
    """MNIST's four files."""
    images, labels = _rng().integers(0, 256, (2, 28, 28), dtype=np.uint8), np.arange(2, dtype=np.uint8)
    parts = {"train-images-idx3-ubyte": _idx(images), "train-labels-idx1-ubyte": _idx(labels)}
    yield _zip(parts)
    yield _zip({f"a/{name}.gz": gzip.compress(data, mtime=0) for name, data in parts.items()})
    yield _zip({name.replace("train", "t10k"): data for name, data in parts.items()} | parts, zipfile.ZIP_DEFLATED)


def mat() -> Iterator[bytes]:
    """SVHN's file, plain and compressed, and the beginning of version 7.3."""
    import scipy.io

    images = _rng().integers(0, 256, (32, 32, 3, 2), dtype=np.uint8)
    for compress in (False, True):
        file = io.BytesIO()
        scipy.io.savemat(file, {"X": images, "y": np.array([[1], [10]], np.uint8)}, do_compression=compress)
        yield file.getvalue()
    yield b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\x02IM" + bytes(384) + b"\x89HDF\r\n\x1a\n"
    file = io.BytesIO()
    scipy.io.savemat(file, {"X": np.array([{"a": 1}, "b"], object), "y": np.array([[1.5]])}, format="5")
    yield file.getvalue()
    file = io.BytesIO()
    scipy.io.savemat(file, {"X": np.ones((2, 3)), "y": np.ones((2, 1))}, format="4")
    yield file.getvalue()


def npz() -> Iterator[bytes]:
    """An archive of images and labels."""
    images, labels = _rng().integers(0, 256, (3, 28, 28), dtype=np.uint8), np.array([0, 1, 1])
    yield _npz(images=images, labels=labels, class_names=np.array(["x", "y"]))
    yield _npz(True, images=images, labels=labels, label_names=np.array([b"x", b"y"]))
    yield _npz(images=images, labels=np.array([{}], object))
    yield _npz(images=images, labels=labels.astype("datetime64[s]"), class_names=np.array([1.5, 2.0]))
    yield _npz(images=images, labels=np.array(3), class_names=np.array("x"))


def keras() -> Iterator[bytes]:
    """MNIST as keras hands it out."""
    images, labels = _rng().integers(0, 256, (2, 28, 28), dtype=np.uint8), np.arange(2, dtype=np.uint8)
    yield _npz(x_train=images, y_train=labels, x_test=images, y_test=labels)
    yield _npz(arr_0=images)


def cifar() -> Iterator[bytes]:
    """Binary records, mosaics, and single images."""
    record = bytes([3]) + _rng().bytes(3072)
    yield _zip({"data_batch_1.bin": record * 2, "test_batch.bin": record}, zipfile.ZIP_DEFLATED)
    yield _zip({"train/ship_0.png": _picture("PNG", side=32), "test/frog.png": _picture("PNG", side=32)})
    yield _zip({"cifar/data_batch_1": b"\x80\x02}."})
    yield _zip({"cifar10/train/airplane/0001.png": _picture("PNG", side=32)})


def picture() -> Iterator[bytes]:
    """One picture of every format and mode that are common."""
    for mode in ("RGB", "L", "1", "P", "RGBA", "LA", "I;16"):
        yield _picture("PNG", mode)
    for mode in ("RGB", "L", "CMYK"):
        yield _picture("JPEG", mode)
    yield _picture("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    for kind in ("BMP", "GIF", "PPM", "WEBP", "TIFF"):
        yield _picture(kind)
    yield _picture("PPM", "L")
    yield _picture("TIFF", "L", compression="tiff_lzw")


def folder() -> Iterator[bytes]:
    """Images by class, with splits, and what operating systems leave beside them."""
    grey = _picture("PNG", "L")
    yield _zip({f"{name}/1.png": grey for name in "AB"})
    yield _zip({f"set/{split}/{name}/1.png": grey for split in ("train", "val") for name in "AB"})
    yield _zip({"A/1.png": grey, "__MACOSX/A/._1.png": b"\0\5\x16\7", ".DS_Store": b"", "A/2.jpg": _picture("JPEG")})


def tiny_imagenet() -> Iterator[bytes]:
    """The official layout with its tables, and the library's own table."""
    grey, root = _picture("JPEG", "L"), "tiny-imagenet-200/"
    yield _zip(
        {
            root + "wnids.txt": b"n2\nn1\n", root + "words.txt": b"n1\tgoldfish\nn2\tshark\n",
            root + "train/n1/images/n1_0.JPEG": grey, root + "train/n2/images/n2_0.JPEG": grey,
            root + "val/images/val_0.JPEG": grey, root + "val/val_annotations.txt": b"val_0.JPEG\tn2\t0\t0\t9\t9\n",
            root + "test/images/test_0.JPEG": grey,
        }
    )  # fmt: skip
    yield _zip({"classes.tsv": b"n1\tgoldfish\nn2\tshark\n", "train/n2/a.JPEG": grey})


def birds() -> Iterator[bytes]:
    """Birds with their tables."""
    names = ("001.Crow/a.jpg", "002.Tit/b.jpg")
    yield _zip(
        {
            "CUB/images.txt": b"1 001.Crow/a.jpg\r\n2 002.Tit/b.jpg\r\n", "CUB/train_test_split.txt": b"1 1\n2 0\n",
            **{f"CUB/images/{name}": _picture("JPEG") for name in names},
        }
    )  # fmt: skip


def _parts() -> dict[str, bytes]:
    return {"a": b"text " * 20, "b/c.gz": gzip.compress(b"text" * 50, mtime=0), "b/é": b"", "d.bin": _rng().bytes(600)}


def zips() -> Iterator[bytes]:
    """Zip archives of every method."""
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield _zip(_parts(), method)


def tars() -> Iterator[bytes]:
    """Tar archives of every form and compression."""
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        yield _tar({**_parts(), "x" * 90 + "/" + "y" * 90: b"long"}, form)
    tar = _tar(_parts(), tarfile.PAX_FORMAT)
    yield from (gzip.compress(tar, mtime=0), bz2.compress(tar), lzma.compress(tar))
    yield bz2.compress(gzip.compress(tar, mtime=0))


def manifest() -> Iterator[bytes]:
    """A set's record."""
    listed = {
        "features.json": {"bytes": 2, "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}
    }
    told = {"about": "digits", "source": "a folder", "note": "", "prepared": "2026-01-01T00:00:00+00:00"}
    content = told | {
        "name": "mnist",
        "version": "3.0.1",
        "splits": {"train": {"count": 1, "sha256": ""}},
        "files": listed,
    }
    yield json.dumps(content).encode()
    listed = listed | {"mnist-train.array_record-00000-of-00001": {"bytes": 3, "sha256": "0"}}
    yield json.dumps(content | {"files": listed | {"decoded/train_images.npy": {"bytes": 1, "sha256": ""}}}).encode()


def torch_zip() -> Iterator[bytes]:
    """What `torch.save` writes, and the same by hand."""
    import torch_files

    yield torch_files.SAVED["saved_zip.pt"].read_bytes()
    yield from _by_hand(torch_files.zip_file)


def torch_old() -> Iterator[bytes]:
    """What old versions of `torch.save` wrote, and the same by hand."""
    import torch_files

    yield torch_files.SAVED["saved_old.pt"].read_bytes()
    yield from _by_hand(torch_files.old_file)


def _by_hand(writer) -> Iterator[bytes]:
    """Small files: a state dict, a nested one, views of storages, parameters."""
    import torch_files as hand

    whole = hand.tensor(hand.storage("0", "float32", 4, view=None), 0, (2, 2), (2, 1))
    parameter = hand.call(hand.named("torch.nn.parameter", "Parameter"), whole) + hand.push((True, False)) + b"b"
    view = hand.tensor(hand.storage("0", "float32", 4, view=("v", 1, 3)), 1, (2,), (1,))
    state = hand.mapping({"module.a": whole, "module.b": whole})
    codes = (
        state,
        hand.mapping({"x": parameter, "y": view}),
        hand.mapping({"epoch": hand.push(3), "state_dict": state}),
    )
    with tempfile.TemporaryDirectory() as room:
        for code in codes:
            yield writer(Path(room) / "x.pt", code, {"0": _ONES}).read_bytes()


def safetensors() -> Iterator[bytes]:
    """Weights in safetensors."""
    from safetensors.numpy import save

    yield save({"a": _ONES, "b.c": np.zeros((2, 0, 3), np.float16)}, {"format": "pt"})
    yield save({"a": _ONES.astype(np.uint16), "b": _ONES.astype(bool)})


def checkpoint() -> Iterator[bytes]:
    """The library's own checkpoints."""
    from pp_jax.results import checkpoints

    trees = ({"params": {"fc": {"kernel": _ONES.reshape(2, 2), "bias": _ONES}}, "empty": {}}, {"a": _ONES[0]})
    with tempfile.TemporaryDirectory() as room:
        for tree in trees:
            for metadata in ({}, {"mean": [0.0], "std": [1.0], "model": "lenet", "num_classes": 10}):
                yield checkpoints.save(Path(room) / "x.safetensors", tree, metadata=metadata).read_bytes()


def record() -> Iterator[bytes]:
    """Records of experiments."""
    from pp_jax.results.records import record as records

    with tempfile.TemporaryDirectory() as room:
        config = {"seed": 0, "defense": {"name": "MAD", "epsilon": 0.1}, "budgets": [1, 2]}
        outcome = {"accuracy": 0.5, "examples": [[1, 2]], "labels": ["a", None]}
        yield records.write(room, kind="k", config=config, result=outcome, timings={"total_s": 1.5}).read_bytes()
        yield records.write(room, kind="k", config={}, result={}, timings={}).read_bytes()


def seal() -> Iterator[bytes]:
    """Seals of a checkpoint: of this training, of others, and without its entries."""
    from pp_jax.training import sealing

    others = ({"identity": {"seed": 1}}, {"training": {}}, {"training": "0" * 64})
    with tempfile.TemporaryDirectory() as room:
        place = Path(room) / "3"
        (place / sealing.STATE).mkdir(parents=True)
        (place / sealing.STATE / "array").write_bytes(b"123")
        for other in ({}, *others):
            sealing.write_seal(place, OWNER | other)
            yield (place / "seal.json").read_bytes()
    yield b"{}"


def mark() -> Iterator[bytes]:
    """Marks: of this purpose, of another one."""
    for purpose in ("notes", "others"):
        yield json.dumps({"keeps": purpose, "holds": ["*.txt", "[0-9]*/"]}).encode()


def journal() -> Iterator[bytes]:
    """Two batches, and one that was not answered."""
    from pp_jax.serving import journal

    with tempfile.TemporaryDirectory() as room:
        with journal.opened(Path(room) / "own") as kept:
            for _ in range(2):
                kept.asking(2)
                kept.answered(np.zeros((2, 3, 3, 1), np.uint8), np.full((2, 2), 0.5, np.float32))
            kept.asking(2)
        yield (Path(room) / "own" / "queries.journal").read_bytes()


def shards() -> Iterator[bytes]:
    """The index of two files."""
    yield json.dumps({"metadata": {}, "weight_map": {"a": "1.safetensors", "b.c": "2.safetensors"}}).encode()


def csv() -> Iterator[bytes]:
    """Kaggle's table with a heading, and one without."""
    heading = ",".join(["label", *(f"pixel{place}" for place in range(784))])
    row = ",".join(["7", *("0" for _ in range(784))])
    yield f"{heading}\n{row}\n".encode()
    yield f"{row}\r\n{row}\r\n".encode()


def npy() -> Iterator[bytes]:
    """Two images as one array, of several types and layouts."""
    images = _rng().integers(0, 256, (2, 28, 28), dtype=np.uint8)
    for array in (images, np.asfortranarray(images), images / 255, images.astype(np.int64)[..., None], images[0]):
        file = io.BytesIO()
        np.save(file, array)
        yield file.getvalue()
