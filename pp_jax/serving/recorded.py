"""Recorded answers as a black box: what an API has said once is said again, and nothing else."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pp_jax import _files
from pp_jax.serving import journal
from pp_jax.serving.answers import checked
from pp_jax.serving.blackbox import API
from pp_jax.types import TransferSet

_NAMES = ("answers", "responses", "probs", "posteriors", "labels")


class NotRecorded(ValueError):
    """Images that no recorded answer belongs to.

    Attributes:
        missing: rows of the batch that have none.
    """

    def __init__(self, message: str, missing: np.ndarray):
        super().__init__(message)
        self.missing = missing


class Recorded:
    """An API made of recorded answers: images (B, H, W, C) in, the responses (B, K) that they had out.

    An image is known if one of the same type, shape and pixels was recorded, bit for bit; one that was recorded several
    times has the first of its answers.

    Args:
        source: a transfer set, or a pair of images (N, H, W, C) and responses (N, K); or a path: an `.npz` or
            `.safetensors` file with the arrays `images` and `answers` (or `responses`, `probs`, `posteriors`,
            `labels`), or a folder that `attacks.collect(…, folder=…)` wrote.
        otherwise: an API that answers images that are not known; without it they are refused.

    Raises:
        ValueError: for a file of another kind or without these arrays, or responses that are none; by the call, for
            images that are not known (`NotRecorded`).
    """

    def __init__(self, source: TransferSet | tuple[Any, Any] | str | os.PathLike[str], *, otherwise: API | None = None):
        images, answers = load(source) if isinstance(source, str | os.PathLike) else source
        images = np.asarray(images)
        if images.ndim != 4 or len(images) == 0:
            raise ValueError(f"recorded images must have shape (N, H, W, C) with N ≥ 1, not {images.shape}")
        self.transfer = TransferSet(images, checked(answers, len(images)))
        self.otherwise = otherwise
        self._rows: dict[bytes, int] = {}
        for row, image in enumerate(images):
            self._rows.setdefault(_digest(image), row)

    def __call__(self, images: Any) -> np.ndarray:
        """Answer a batch of queries, (B, K).

        Raises:
            NotRecorded: for images that are not known, where there is no other API.
        """
        images = np.asarray(images)
        rows = np.array([self._rows.get(_digest(image), -1) for image in images], np.int64)
        missing = np.flatnonzero(rows < 0)
        answers = self.transfer.answers[rows]
        if len(missing) and self.otherwise is None:
            raise NotRecorded(self._refusal(images, missing), missing)
        if len(missing) and self.otherwise is not None:
            asked = checked(self.otherwise(images[missing]), len(missing), self.transfer.answers)
            answers = answers.astype(np.result_type(answers, asked))
            answers[missing] = asked
        return answers

    def _refusal(self, images: np.ndarray, missing: np.ndarray) -> str:
        """What is missing, and why where that can be seen."""
        known = self.transfer.images
        text = f"{len(missing)} of {len(images)} images have no recorded answer; {len(known)} images were recorded"
        if (images.dtype, images.shape[1:]) != (known.dtype, known.shape[1:]):
            return f"{text}, as {known.dtype} of shape {known.shape[1:]}, not {images.dtype} of {images.shape[1:]}"
        return f"{text}: must be among these, or Recorded(…, otherwise=api) asks an API about them"


def load(path: str | os.PathLike[str]) -> TransferSet:
    """The images and responses of a file, or of a folder that `attacks.collect` wrote.

    Raises:
        ValueError: naming the path, and what it must be.
        OSError: it cannot be read.
    """
    path = _files.expanded(path)
    if path.is_dir():
        content = journal.read(path)
        if content.damaged:
            warnings.warn(f"{path}: {content.damaged} damaged entries were left out", stacklevel=3)
        if content.transfer is None:
            raise ValueError(f"{path} has no answers yet")
        return content.transfer
    arrays = _arrays(path)
    found = [name for name in _NAMES if name in arrays]
    if "images" not in arrays or not found:
        held = ", ".join(arrays) or "nothing"
        raise ValueError(f"{path} holds {held}: must hold the arrays images and {' or '.join(_NAMES)}")
    return TransferSet(arrays["images"], arrays[found[0]])


def _arrays(path: Path) -> Mapping[str, np.ndarray]:
    """The arrays of a file by name; nothing in it is run."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load as from_bytes

        try:
            return from_bytes(path.read_bytes())
        except SafetensorError as error:
            raise ValueError(f"{path} must be a whole safetensors file: {error}") from error
    if path.suffix != ".npz":
        raise ValueError(f"{path} must be an .npz or .safetensors file, or a folder that attacks.collect wrote")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ValueError(f"{path} must be a whole .npz file of plain arrays: {error}") from error


def _digest(image: np.ndarray) -> bytes:
    """Type, shape and pixels of an image."""
    form = f"{image.dtype.str}{image.shape}".encode()
    return hashlib.sha256(form + np.ascontiguousarray(image).tobytes()).digest()
