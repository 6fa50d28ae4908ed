"""Kinds of image sets: what the sets of one kind have in common, as functions that make a `Spec`."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from pp_jax.data import labels, remotes, sources
from pp_jax.data.files import Files
from pp_jax.data.formats import cifar, folder, idx, known, mat
from pp_jax.data.sources import Source
from pp_jax.data.spec import Shape, Spec
from pp_jax.data.types import Raw, Track


def _known(
    name: str, *, native: Callable[..., Raw], endings: str, pictures: Callable[..., Raw] | None = None, **facts: Any
) -> Spec:
    """A set with an official form of its own, which is also read in the other forms that people have it in."""
    forms = {key: facts[key] for key in ("shape", "accepts")}
    read = functools.partial(
        known.read, name=name, native=native, endings=endings, pictures=pictures, classes=facts["class_names"], **forms
    )
    return Spec(name=name, read=read, **facts)


def mnist_like(
    name: str, about: str, class_names: tuple[str, ...], *origins: Source, digests: Mapping[str, str] | None = None
) -> Spec:
    """A set of the size, shape and file names of MNIST."""
    return _known(
        name,
        native=functools.partial(idx.read, set_name=name),
        endings="idx[13]-ubyte",
        version="3.0.1",
        shape=(28, 28, 1),
        about=about,
        class_names=class_names,
        counts={"train": 60_000, "test": 10_000},
        digests=digests or {},
        origins=origins,
        accepts=(
            "a folder or archive of IDX files (train-images-idx3-ubyte[.gz], …), an .npz (x_train, y_train, x_test, "
            "y_test), tables train.csv and test.csv (label and 784 pixels), or pictures <split>/<class>/<name>.png"
        ),
    )


def emnist(config: str, num_classes: int, train: int, test: int) -> Spec:
    """One configuration of EMNIST, whose classes TFDS names by number; in "letters" class 0 is empty and 1 is A."""
    spec = _known(
        f"emnist/{config}",
        native=functools.partial(idx.read, prefix=f"emnist-{config}-", set_name="emnist"),
        endings="idx[13]-ubyte",
        version="3.1.0",
        shape=(28, 28, 1),
        about="Handwritten characters, NIST, public domain; rows and columns exchanged, as in the files and in TFDS.",
        class_names=tuple(str(label) for label in range(num_classes)),
        counts={"train": train, "test": test},
        origins=(sources.official(remotes.EMNIST),),
        accepts=(
            f"gzip.zip as NIST hands it out, a folder of emnist-{config}-train-images-idx3-ubyte.gz, …, or the tables "
            f"emnist-{config}-train.csv and emnist-{config}-test.csv"
        ),
    )
    return dataclasses.replace(spec, read=functools.partial(_read_emnist, spec=spec))


def _read_emnist(files: Files, *, spec: Spec) -> Raw:
    """Read EMNIST in the forms whose rows and columns are known to be exchanged."""
    if not any(re.search(r"ubyte|\.csv", name) for name in files.names):
        raise known.unread(files, f"{spec.accepts}; in other forms it may or may not have rows and columns exchanged")
    assert spec.read is not None
    return spec.read(files)


def small_photographs(classes: tuple[str, ...], remote: sources.Remote) -> Spec:
    """CIFAR-10 or CIFAR-100."""
    return _known(
        f"cifar{len(classes)}",
        native=functools.partial(cifar.read, classes=classes),
        endings=cifar.ENDINGS,
        pictures=functools.partial(cifar.read, classes=classes),
        version="3.0.2",
        shape=(32, 32, 3),
        about=f"Small photographs of {len(classes)} classes, Krizhevsky 2009; no licence stated.",
        class_names=classes,
        counts={"train": 50_000, "test": 10_000},
        origins=(sources.official(remote),),
        accepts=(
            f"the binary version (cifar-{len(classes)}-binary.tar.gz or unpacked), an .npz (x_train, y_train, x_test, "
            "y_test), pictures <split>/<class>/<name>.png, or mosaics <split>/<class>.webp of 32×32 tiles"
        ),
        ids=5,
        coarse=(labels.CIFAR100_COARSE, labels.CIFAR100_COARSE_OF_FINE) if len(classes) == 100 else None,
    )


def svhn() -> Spec:
    """SVHN's cropped digits; the official download leaves out the 1.3 GB of the split "extra"."""
    return _known(
        "svhn_cropped",
        native=mat.read,
        endings=mat.ENDINGS,
        version="3.1.0",
        shape=(32, 32, 3),
        about="Digits of house numbers, Netzer et al. 2011, non-commercial use.",
        class_names=labels.DIGITS,
        counts={"train": 73_257, "test": 26_032, "extra": 531_131},
        optional=("extra",),
        origins=(sources.official(*remotes.SVHN),),
        accepts="format 2: a folder of train_32x32.mat, test_32x32.mat and, if wanted, extra_32x32.mat",
        ids=6,
    )


def photographs(
    name: str, version: str, shape: Shape, about: str, *, read: Callable[..., Raw] | None = None, **more: Any
) -> Spec:
    """A set of photographs that comes as an image folder; TFDS's sets among them may be prepared with TFDS instead."""
    more.setdefault("accepts", "a folder or archive of <split>/<class>/<image>.jpg or .png")
    return Spec(
        name=name,
        version=version,
        shape=shape,
        about=about,
        read=read or functools.partial(folder.read, channels=3),
        resizable=True,
        **more,
    )


def npz_set(name: str, shape: Shape, about: str, **more: Any) -> Spec:
    """A set without a class list of its own, which comes as IDX files, as an .npz or as an image folder."""
    facts: dict[str, Any] = {
        "version": "1.0.0",
        "accepts": "an .npz with images, labels and class_names, or a folder or archive of <class>/<image>",
        "class_names": None,
        "resizable": True,
        "native": functools.partial(idx.read, set_name=name),
        "endings": "idx[13]-ubyte",
    }
    return _known(name, shape=shape, about=about, **facts | more)


def imagenet_resized(side: int, terms: str) -> Spec:
    """The downsampled ImageNet, from its authors' batches, or any image folder brought to that size."""
    return npz_set(
        f"imagenet_resized/{side}x{side}",
        (side, side, 3),
        f"ImageNet at {side}×{side}, {terms}.",
        version="0.1.0",
        accepts=(
            f"a folder of Imagenet{side}_train_npz and Imagenet{side}_val_npz "
            "(train_data_batch_1.npz, …, val_data.npz), or a folder or archive of <split>/<class>/<image>.jpg or .png"
        ),
    )


def font_letters() -> Spec:
    """The letters that the library renders itself."""
    return Spec(
        name="font_letters",
        version="1.0.0",
        shape=(28, 28, 1),
        about="A–Z and a–z rendered from matplotlib's fonts, with random distortion.",
        make=_make_font_letters,
        counts={"train": 10_000, "test": 2_000},
    )


def _make_font_letters(track: Track) -> Raw:
    """Render font_letters; matplotlib's fonts are looked up only then."""
    from pp_jax.data import font_letters

    return font_letters.make(track=track)
