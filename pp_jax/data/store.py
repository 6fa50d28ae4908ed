"""Prepared sets on disk: TFDS's own format (array_record), written and read without TensorFlow.

A set that this package prepares has, beside TFDS's files, `pp_jax.json` (what it was made from; the SHA-256 of every
file) and `decoded/`, the same images as memory-mapped arrays, so that loading takes no decoding.
"""

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf import json_format
from PIL import Image

from pp_jax.data import location, manifest
from pp_jax.data.spec import Spec
from pp_jax.data.types import DataError, DatasetCorrupt, DatasetMissing, Raw, Track

_BATCH = 2048
_FORMATS = ("PNG", "JPEG")


def write(spec: Spec, raw: Raw, class_names: tuple[str, ...], root: Path, track: Track) -> Path:
    """Write the arrays of a set as a TFDS directory below `root`, and return that directory.

    The records are shuffled by TFDS's hash of an image's position, so an official set prepared here has the order of
    one that TFDS prepared, and `train[:1000]` selects the same images.
    """
    builder = _builder(spec, raw, class_names, root, track)
    try:
        # TFDS announces and celebrates on standard output; the caller reports instead.
        with contextlib.redirect_stdout(io.StringIO()), _without_progress_bars():
            builder.download_and_prepare()
    except (OSError, RuntimeError) as error:
        raise DataError(f"{spec.name} cannot be written below {root} ({error}); is the disk full?") from error
    return Path(builder.data_dir)


def _builder(
    spec: Spec, raw: Raw, class_names: tuple[str, ...], root: Path, track: Track
) -> tfds.core.GeneratorBasedBuilder:
    """A TFDS builder of the set's official name and version, which yields `raw`."""
    set_name, _, config = spec.name.partition("/")
    shape = next(iter(raw.splits.values()))[0].shape[1:]

    with tfds.core.registered.skip_registration():

        class Builder(tfds.core.GeneratorBasedBuilder):
            """Yields arrays that are in memory."""

            name = set_name
            # There are no recorded downloads beside this code; TFDS would need another package to look for them.
            code_path = None
            VERSION = tfds.core.Version(spec.version)
            BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

            def _info(self) -> tfds.core.DatasetInfo:
                return tfds.core.DatasetInfo(
                    builder=self,
                    description=spec.about,
                    features=_features(spec, shape, class_names),
                    supervised_keys=("image", "label"),
                )

            def _split_generators(self, dl_manager: Any) -> Mapping[str, Any]:
                del dl_manager
                return {split: self._generate_examples(split) for split in raw.splits}

            def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
                images, labels = raw.splits[split]
                rows = zip(images, labels.tolist(), strict=True)
                for index, (image, label) in enumerate(track(rows, f"writing {spec.name} {split}", len(labels))):
                    yield index, _example(spec, split, index, image, label)

    return Builder(data_dir=os.fspath(root), file_format="array_record")


def _features(spec: Spec, shape: tuple[int, ...], class_names: tuple[str, ...]) -> tfds.features.FeaturesDict:
    """TFDS's features of the set."""
    features: dict[str, Any] = {
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(names=class_names),
    }
    if spec.ids is not None:
        features["id"] = tfds.features.Text()
    if spec.coarse is not None:
        features["coarse_label"] = tfds.features.ClassLabel(names=spec.coarse[0])
    return tfds.features.FeaturesDict(features)


def _example(spec: Spec, split: str, index: int, image: np.ndarray, label: int) -> dict[str, Any]:
    """One image with its features."""
    example: dict[str, Any] = {"image": png(image), "label": label}
    if spec.ids is not None:
        example["id"] = f"{split}_{index:0{spec.ids}d}"
    if spec.coarse is not None:
        example["coarse_label"] = spec.coarse[1][label]
    return example


def png(image: np.ndarray) -> bytes:
    """An (H, W, 1 or 3) uint8 image as PNG, lossless."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG", compress_level=1)
    return file.getvalue()


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    """TFDS without progress bars of its own."""
    tfds.disable_progress_bar()
    try:
        yield
    finally:
        tfds.enable_progress_bar()


def open_prepared(directory: Path) -> tfds.core.DatasetBuilder:
    """The prepared set in a version directory.

    Raises:
        DatasetCorrupt: if its description cannot be read.
        DataError: if it is in a file format without random access.
    """
    try:
        builder = tfds.builder_from_directory(os.fspath(directory))
    except (ValueError, KeyError, OSError, json_format.ParseError) as error:
        raise DatasetCorrupt(
            f"{directory} is not a whole prepared set ({error}); move it away and prepare it again"
        ) from error
    if builder.info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
        raise DataError(
            f"{directory} was prepared by TFDS as {builder.info.file_format.value}, which cannot be read without "
            f"TensorFlow; {location.beside(_name(builder))}"
        )
    return builder


def ranges(builder: tfds.core.DatasetBuilder, split: str) -> list[tuple[str, int, int]]:
    """What a split in TFDS's notation selects: (split name, start, stop), to be joined.

    Raises:
        DatasetMissing: if the set has no such split.
        ValueError: if the notation is wrong.
    """
    infos = builder.info.splits
    for name in (part.partition("[")[0].strip() for part in split.split("+")):
        if name not in infos and name != "all":
            raise DatasetMissing(f"{builder.info.full_name} has no split {name!r}; it has {', '.join(infos)}")
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (AssertionError, ValueError) as error:
        raise ValueError(
            f"split {split!r} does not select a part of {builder.info.full_name} ({str(error).splitlines()[0]}); "
            "examples: train, train[:1000], train[50%:], train+test"
        ) from error
    return [_bounds(part, infos[part.splitname].num_examples) for part in parts]


def _bounds(part: Any, total: int) -> tuple[str, int, int]:
    """Split name, start and stop of one part of a split; TFDS leaves open ends out."""
    return part.splitname, part.from_ or 0, total if part.to is None else part.to


def class_names(builder: tfds.core.DatasetBuilder) -> tuple[str, ...]:
    """The names of the labels."""
    return tuple(builder.info.features[_keys(builder)[1]].names)


def decode(builder: tfds.core.DatasetBuilder, split: str, track: Track) -> tuple[np.ndarray, np.ndarray]:
    """Read and decode a split from its records: images (N, H, W, C) uint8, labels (N,) int32.

    Raises:
        DatasetCorrupt: if a record file is missing, truncated or altered.
        DataError: if the images differ in size.
    """
    image_key, label_key = _keys(builder)
    features = builder.info.features
    skip = {key: tfds.decode.SkipDecoding() for key in features if isinstance(features[key], tfds.features.Image)}
    images: np.ndarray | None = None
    labels: np.ndarray | None = None
    try:
        source = builder.as_data_source(split=split, decoders=skip)
        labels = np.empty(len(source), np.int32)
        for row, example in enumerate(track(_examples(source), f"reading {builder.info.name} {split}", len(source))):
            image = _unpack(example[image_key], features[image_key].shape[-1])
            if images is None:
                images = np.empty((len(source), *image.shape), np.uint8)
            if image.shape != images.shape[1:]:
                raise DataError(
                    f"the images of {builder.info.full_name} differ in size ({image.shape} and {images.shape[1:]}): "
                    f"prepare the set from an image folder with --size"
                )
            images[row], labels[row] = image, example[label_key]
    except (RuntimeError, IndexError, SyntaxError, OSError, ValueError) as error:
        raise _corrupt(builder, split, error) from error
    if images is None:
        images = np.empty((0, *(side or 0 for side in features[image_key].shape)), np.uint8)
    return images, labels


def _examples(source: Any) -> Iterable[Mapping[str, Any]]:
    """The examples of a data source, fetched in batches."""
    for start in range(0, len(source), _BATCH):
        yield from source.__getitems__(list(range(start, min(start + _BATCH, len(source)))))


def _unpack(data: bytes, channels: int) -> np.ndarray:
    """An encoded image as (H, W, channels) uint8."""
    mode = "L" if channels == 1 else "RGB"
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        array = np.asarray(image if image.mode == mode else image.convert(mode))
    return array.reshape(*array.shape[:2], channels)


def _keys(builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    """The names of the features that hold image and label."""
    keys = builder.info.supervised_keys
    if not keys or len(keys) != 2 or not isinstance(builder.info.features[keys[0]], tfds.features.Image):
        raise DataError(
            f"{builder.info.full_name} is not a set of labelled images (its supervised keys are {keys or 'none'}): "
            "choose a set whose supervised keys are an image and its label"
        )
    return keys


def _name(builder: tfds.core.DatasetBuilder) -> str:
    """The set's name with its configuration, if it has one: the full name without the version."""
    return str(builder.info.full_name).rsplit("/", 1)[0]


def _corrupt(builder: tfds.core.DatasetBuilder, split: str, error: Exception) -> DatasetCorrupt:
    """The error of a record file that cannot be read."""
    name = split.partition("[")[0]
    files = (
        ", ".join(os.fspath(path) for path in builder.info.splits[name].filepaths)
        if name in builder.info.splits
        else ""
    )
    ours = (Path(builder.data_dir) / manifest.NAME).is_file()
    cure = f"cure: python -m pp_jax.data prepare {_name(builder)} --force" if ours else location.beside(_name(builder))
    return DatasetCorrupt(f"{files or builder.data_dir} is truncated or altered ({error}); {cure}")
