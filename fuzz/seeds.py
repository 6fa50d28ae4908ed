"""Inputs that mutation starts from: whole files of every format, made small, and a few that are almost whole."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from PIL import Image


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
    save: Callable[..., None] = np.savez_compressed if compressed else np.savez
    save(file, **content)
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
