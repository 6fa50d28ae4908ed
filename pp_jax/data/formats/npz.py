"""NumPy archives with `images`, `labels` and, if the labels have names, `class_names` or `label_names`."""

import io
import zipfile
import zlib

import numpy as np

from pp_jax.data.files import Files
from pp_jax.data.types import DatasetCorrupt, Raw

_KEYS = ("images", "labels", "class_names", "label_names")


def read(files: Files) -> Raw:
    """Read an .npz of images (N, H, W) or (N, H, W, C) uint8 and labels (N,) integer, as the split "train".

    Other arrays in the archive are left alone. Nothing is unpickled.

    Raises:
        DatasetCorrupt: if the archive is damaged, or `images` or `labels` is missing or of another kind.
    """
    found = files.find(".npz")
    if found is None:
        raise DatasetCorrupt(f"{files.origin} holds no .npz file with images and labels")
    where = files.where(found)
    content = _arrays(files.read(found), where)
    missing = {"images", "labels"} - content.keys()
    if missing:
        raise DatasetCorrupt(f"{where} lacks the array {' and '.join(sorted(missing))}")
    images, labels = content["images"], content["labels"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DatasetCorrupt(f"images in {where} must be uint8 (N, H, W[, C]), not {images.dtype} {images.shape}")
    names = content.get("class_names", content.get("label_names"))
    class_names = None if names is None else tuple(str(name) for name in names)
    return Raw({"train": (images if images.ndim == 4 else images[..., None], labels)}, class_names)


def _arrays(data: bytes, where: str) -> dict[str, np.ndarray]:
    """Those arrays of an archive that matter."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in _KEYS if key in archive.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise DatasetCorrupt(f"{where} is not a whole .npz of plain arrays ({error}): fetch it again") from error
