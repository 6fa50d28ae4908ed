"""What watching 10,000 accounts takes: updates a second of every detector, and bytes of an account.

    python benchmarks/detectors.py    # about 3 minutes on 2 idle cores

Each account asks about 128 of 2,000 images of noise, of which an untrained LeNet is asked once. Detectors are made as
`pp_jax.detection.makers` makes them. A run takes the summaries of the images along, so it stands for accounts that ask
about a pool; a service, where every image is new, pays for the summaries besides. Accounts are watched some at a time:
their memories need not fit together. The speeds are for information, the memory has a bound. Seeds are fixed.
"""

import functools
import math
import time
from typing import Any

import jax
import numpy as np

from harness import Row, report, row
from pp_jax import detection, models
from pp_jax.detection import makers

ACCOUNTS, QUERIES, IMAGES = 10_000, 128, 2000
BYTES = 131_072
"""What an account may take: a million accounts of the largest then fit into 128 GiB."""


@functools.cache
def world() -> tuple[Any, Any, detection.Observed]:
    """A victim and what it sees of a pool."""
    network = models.lenet(10)
    params = network.init(jax.random.key(0), (28, 28, 1))
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28, 1), np.uint8)
    # An untrained network has one class for all noise: classes are drawn instead.
    seen = detection.observe(network, params, images)
    probs = jax.random.dirichlet(jax.random.key(1), jax.numpy.full(10, 0.3), (IMAGES,))
    return network, params, seen._replace(probs=probs)


def rows(*, accounts: int = ACCOUNTS, queries: int = QUERIES, only: tuple[str, ...] = ()) -> list[Row]:
    """Two rows for each detector."""
    network, params, seen = world()
    snapshots = [network.init(jax.random.key(seed), (28, 28, 1)) for seed in range(3)]
    named = {maker.__name__: maker for maker in makers.MAKERS} | {"hoda": makers.hoda(snapshots)}
    streams = np.random.default_rng(1).integers(0, IMAGES, (accounts, queries))
    found = []
    for name, maker in named.items():
        if only and name not in only:
            continue
        detector = maker(jax.random.key(2), network, params, seen, np.argmax(seen.probs, axis=1))
        known = detection.summaries(detector, seen)
        detection.watch(detector, seen, streams[: min(accounts, 2048)], known=known)
        started, processor = time.perf_counter(), time.process_time()
        detection.watch(detector, seen, streams, known=known)
        wall, processor = time.perf_counter() - started, time.process_time() - processor
        details = {"accounts": accounts, "queries": queries, "seconds": wall, "processor_seconds": processor}
        speed = accounts * queries / wall
        found.append(row(f"{name}: updates/s, {accounts} accounts (for information)", speed, math.inf, details=details))
        found.append(row(f"{name}: bytes of an account", detection.memory(detector), BYTES, details={}))
    return found


if __name__ == "__main__":
    report(rows())
