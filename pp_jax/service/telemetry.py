"""What the defender sees: Prometheus metrics without accounts' names, alerts and an audit as JSON lines."""

import datetime
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pp_jax.service.engine import Answers

_SIZES = (1, 4, 16, 64, 256, 1024)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SCORES = (-10.0, -1.0, -0.1, 0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 25.0, 100.0)


class Metrics:
    """Counters and histograms of one service, with a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("pp_requests", "Requests by endpoint and status", ["endpoint", "status"], **own)
        self.images = Counter("pp_images", "Images answered", **own)
        self.refused = Counter("pp_refused", "Requests refused, by reason", ["reason"], **own)
        self.seconds = Histogram("pp_request_seconds", "Seconds from body to response", buckets=_SECONDS, **own)
        self.batch = Histogram("pp_batch_images", "Images in a batch", buckets=_SIZES, **own)
        self.compute = Histogram("pp_batch_seconds", "Seconds of a batch's program", buckets=_SECONDS, **own)
        self.l1 = Counter("pp_l1", "Sum of the L1 distances between clean and returned posteriors", **own)
        self.changed = Counter("pp_changed_labels", "Images whose top class was changed", **own)
        self.bands = Counter("pp_band_images", "Images answered, by band of their account", ["band"], **own)
        self.alerts = Counter("pp_alerts", "Times that an account rose to a higher band", ["band"], **own)
        self.scores = Histogram("pp_score", "Detector scores at each image", buckets=_SCORES, **own)
        self.accounts = Gauge("pp_accounts", "Accounts of which something is remembered in memory", **own)

    def batched(self, answers: Answers, watched: np.ndarray, seconds: float) -> None:
        """Count a batch.

        Args:
            answers: what it came to.
            watched: which images are defended, (B,); the others are the defender's own and only counted.
            seconds: that it took.
        """
        self.batch.observe(len(watched))
        self.compute.observe(seconds)
        self.images.inc(len(watched))
        y, responses = answers.probs[watched], answers.responses[watched]
        self.l1.inc(float(np.abs(responses - y).sum()))
        self.changed.inc(int((responses.argmax(axis=1) != y.argmax(axis=1)).sum()))
        for band, count in zip(*np.unique(answers.bands[watched], return_counts=True), strict=True):
            self.bands.labels(str(band)).inc(int(count))
        for score in answers.scores[watched]:
            if np.isfinite(score):
                self.scores.observe(float(score))

    def total(self, name: str) -> float:
        """What a counter has come to."""
        return self.registry.get_sample_value(f"{name}_total") or 0.0

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return bytes(generate_latest(self.registry))


class Lines:
    """A log of JSON lines, appended and flushed at once; a disk that is full stops the log, not the service.

    Args:
        path: the file; made when missing, with its folder.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # For the owner's eyes: clean posteriors may be in it.
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()
        self._torn = False
        self.lost = 0

    def write(self, objects: Iterable[dict[str, Any]]) -> None:
        """Append objects, each with the time."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        lines = [json.dumps({"time": now, **fields}, allow_nan=False) + "\n" for fields in objects]
        with self._lock:
            text = ("\n" if self._torn else "") + "".join(lines)
            try:
                written = os.write(self._file, text.encode())
            except OSError:
                self.lost += len(lines)
                return
            self._torn = written != len(text.encode())
            self.lost += self._torn
