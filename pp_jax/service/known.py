"""Thresholds that were set before: the same victim, images and options have them, without trying accounts again."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pp_jax import _files
from pp_jax._version import __version__
from pp_jax.results.identity import digest, tree_digest
from pp_jax.service.config import Policy


class Known:
    """A file with the thresholds of one policy.

    Args:
        path: the file.
        policy: detector, rates, queries and accounts.
        images: training images, (N, H, W, C).
        labels: their classes, (N,).
        params: the victim's.
        seed: of the accounts that are tried.
    """

    def __init__(self, path: Path, policy: Policy, images: Any, labels: Any, params: Any, seed: int) -> None:
        options = [__version__, policy.detector, policy.rates, policy.queries, policy.accounts, seed]
        self._path, self._count = path, len(policy.rates)
        self._digest = digest([*options, np.asarray(images), np.asarray(labels), tree_digest(params)])

    def read(self) -> tuple[float, ...] | None:
        """The thresholds; None where the file is not there or another policy's."""
        try:
            content = json.loads(self._path.read_text("utf-8"))
            found = tuple(float(number) for number in content["thresholds"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if content.get("digest") == self._digest and len(found) == self._count else None

    def write(self, thresholds: Any) -> None:
        """Keep the thresholds."""
        if self.read() is None:
            content = {"digest": self._digest, "thresholds": np.asarray(thresholds, np.float64).tolist()}
            _files.write_bytes(self._path, json.dumps(content).encode())
