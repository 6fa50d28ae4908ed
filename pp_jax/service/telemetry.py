"""What the defender sees: Prometheus metrics without accounts' names, alerts and an audit as JSON lines."""

import datetime
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pp_jax.service.engine import Answers

_SIZES = (1, 4, 16, 64, 256, 1024)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Counters and histograms of one service, with a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("pp_requests", "Requests by endpoint and status", ["endpoint", "status"], **own)
        self.images = Counter("pp_images", "Images answered", **own)
        self.refused = Counter("pp_refused_images", "Images refused, by reason", ["reason"], **own)
        self.seconds = Histogram("pp_request_seconds", "Seconds from body to response", buckets=_SECONDS, **own)
        self.batch = Histogram("pp_batch_images", "Images in a batch", buckets=_SIZES, **own)
        self.compute = Histogram("pp_batch_seconds", "Seconds of a batch's program", buckets=_SECONDS, **own)
        self.l1 = Counter("pp_l1", "Sum of the L1 distances between clean and returned posteriors", **own)
        self.changed = Counter("pp_changed_labels", "Images whose top class was changed", **own)
        self.bands = Counter("pp_band_images", "Images answered, by band of their account", ["band"], **own)
        self.alerts = Counter("pp_alerts", "Times that an account rose to a higher band", ["band"], **own)
        self.waiting = Gauge("pp_accounts", "Accounts of which something is remembered", **own)

    def batched(self, answers: Answers, seconds: float) -> None:
        """Count a batch."""
        self.batch.observe(len(answers.responses))
        self.compute.observe(seconds)
        self.images.inc(len(answers.responses))
        self.l1.inc(float(np.abs(answers.responses - answers.probs).sum()))
        self.changed.inc(int((answers.responses.argmax(axis=1) != answers.probs.argmax(axis=1)).sum()))
        for band, count in zip(*np.unique(answers.bands, return_counts=True), strict=True):
            self.bands.labels(str(band)).inc(int(count))

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
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self.lost = 0

    def write(self, **fields: Any) -> None:
        """Append one object, with the time."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, **fields}, allow_nan=False) + "\n"
        with self._lock:
            try:
                self._file.write(line)
                self._file.flush()
            except OSError:
                self.lost += 1
