"""Large query streams: throughput against `perturb` in a loop, and how far resident memory grows.

    python benchmarks/streams.py    # about 2 minutes on 2 idle cores, 1 GiB of temporary files

Posteriors and uint8 images lie in memory maps of a temporary folder; MAD's surrogate is untrained. A stream is compared
with `perturb` of the same batches in a loop that reads the same maps; responses are thrown away on both sides. Resident
memory (VmHWM, Linux) is that of a process of its own: its largest value less the value once everything but the stream
was set up. Seeds are fixed.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from harness import Row, paired, report, row
from pp_jax import MAD, models, perturb, stream
from pp_jax.models import Network

SHAPE = (28, 28, 1)
BATCH = 1024
MEMORY_LIMIT = 1.5


@dataclasses.dataclass(frozen=True)
class Setting:
    """A stream and its surrogate.

    Attributes:
        surrogate: "mlp" (one hidden layer of 32) or "lenet".
        classes: K.
        queries: the length of the stream.
    """

    surrogate: str
    classes: int
    queries: int

    @property
    def label(self) -> str:
        """How rows are named."""
        return f"{self.surrogate}, K={self.classes}, {self.queries:,} queries in batches of {BATCH}"

    def network(self) -> Network:
        """The surrogate's architecture."""
        return models.mlp(self.classes, hidden=(32,)) if self.surrogate == "mlp" else models.lenet(self.classes)

    def defense(self) -> MAD:
        """MAD with an untrained surrogate."""
        network = self.network()
        return MAD(network, jax.jit(network.init, static_argnums=1)(jax.random.key(0), SHAPE), 0.9)


SETTINGS = (
    Setting("mlp", 10, 1_000_000),
    Setting("mlp", 1000, 100_000),
    Setting("lenet", 10, 20_000),
    Setting("lenet", 1000, 20_000),
)


def write(folder: Path, case: Setting) -> None:
    """Posteriors and noise for images, a thousand of each over and over: the time does not depend on them."""
    rng = np.random.default_rng(0)
    some: dict[str, np.ndarray] = {
        "probs": rng.dirichlet(np.ones(case.classes), 1000).astype(np.float32),
        "images": rng.integers(0, 256, (1000, *SHAPE)).astype(np.uint8),
    }
    for name, rows in some.items():
        out = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", rows.dtype, (case.queries, *rows.shape[1:]))
        for start in range(0, case.queries, len(rows)):
            out[start : start + len(rows)] = rows[: case.queries - start]


def read(folder: Path) -> tuple[Any, Any]:
    """The maps."""
    return np.load(folder / "probs.npy", mmap_mode="r"), np.load(folder / "images.npy", mmap_mode="r")


def looped(defense: MAD, probs: Any, images: Any) -> Iterator[np.ndarray]:
    """`perturb` of one batch after the other."""
    for start in range(0, len(probs), BATCH):
        yield np.asarray(perturb(defense, probs[start : start + BATCH], images[start : start + BATCH]))


def consume(responses: Iterator[np.ndarray]) -> None:
    """Wait for every response, keep none."""
    for _ in responses:
        pass


def peak() -> int:
    """The largest resident memory of this process so far, in bytes."""
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def grown(folder: Path, case: Setting) -> int:
    """Bytes by which this process grows over one stream, the compilation included."""
    source, defense = read(folder), case.defense()
    before = peak()
    consume(stream.perturb(defense, source, batch_size=BATCH))
    return peak() - before


def grown_alone(folder: Path, case: Setting) -> float:
    """The same of a fresh process, in GiB."""
    arguments = [sys.executable, __file__, str(folder), json.dumps(dataclasses.asdict(case))]
    done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.splitlines()[-1]) / 2**30


def case_rows(case: Setting, *, repeats: int) -> list[Row]:
    """Throughput and memory of one setting."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, case)
        memory = grown_alone(folder, case)
        source, defense = read(folder), case.defense()
        times = paired(
            {
                "stream": lambda: consume(stream.perturb(defense, source, batch_size=BATCH)),
                "loop": lambda: consume(looped(defense, *source)),
            },
            repeats=repeats,
        )
    speed = {f"{name}_queries_a_second": case.queries / times.median(name) for name in times.wall}
    details = speed | {"repeats": repeats, "queries": case.queries}
    return [
        row(f"stream / perturb in a loop, time, {case.label}", times.ratio("stream", "loop"), 1.05, details=details),
        row(f"stream, growth of resident memory in GiB, {case.label}", memory, MEMORY_LIMIT, details={"batch": BATCH}),
    ]


def rows(settings: tuple[Setting, ...] = SETTINGS, *, repeats: int = 3) -> list[Row]:
    """The whole table."""
    return [entry for case in settings for entry in case_rows(case, repeats=repeats)]


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(grown(Path(sys.argv[1]), Setting(**json.loads(sys.argv[2]))))
    else:
        report(rows())
