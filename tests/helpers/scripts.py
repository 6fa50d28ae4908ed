"""The scripts of the experiments as a user runs them, and a small set of real files to run them on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from experiments.common import AttackOptions
from experiments.victims import VictimOptions
from pp_jax import data
from pp_jax.data.spec import Spec
from pp_jax.data.types import Raw

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
SMALL = (
    "--victim.dataset",
    "stripes",
    "--victim.epochs",
    "3",
    "--victim.batch-size",
    "32",
    "--victim.learning-rate",
    "0.05",
)
SMALL_VICTIM = VictimOptions("stripes", "mlp", epochs=2, batch_size=32, learning_rate=0.05)
THEFT = ("--attack.pool", "stripes", "--attack.budget", "160", "--attack.epochs", "2")


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """16×16 images of four classes: which edge is bright."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = rng.integers(0, 90, (count, 16, 16, 1))
    for image, label in zip(images, labels, strict=True):
        np.rot90(image, label)[:5] += 120
    return images.astype(np.uint8), labels


def prepare_stripes(folder: Path, *, name: str = "stripes") -> Path:
    """A data directory with the stripes prepared in it, under any name."""
    raw = Raw({"train": stripes(400, 0), "test": stripes(100, 1)}, ("top", "right", "bottom", "left"))
    spec = Spec(name, "1.0.0", (None, None, 1), "For tests.", make=lambda track: raw)
    data.prepare(spec, data_dir=folder)
    return folder


def start(name, *arguments, data_dir=None, cwd=None, environment=None, warnings="error", **options):
    """Start a script; the process."""
    variables = {**os.environ, "TFDS_DATA_DIR": str(data_dir), "COLUMNS": "200", **(environment or {})}
    variables["PYTHONPATH"] = os.pathsep.join([*filter(None, [variables.get("PYTHONPATH")]), str(ROOT)])
    module = f"experiments.{name.removesuffix('.py')}"
    command = [sys.executable, "-W", warnings, "-m", module, *map(str, arguments)]
    return subprocess.Popen(
        command, env=variables, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def ended(process, timeout=240):
    """Wait for a script; its exit status and all that it printed."""
    try:
        text, _ = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, text


def script(name, *arguments, timeout=240, **options):
    """Run a script; its exit status and all that it printed."""
    return ended(start(name, *arguments, **options), timeout)


def small(config, data_dir, runs, **changes):
    """A script's options for seconds: an MLP on the stripes."""
    attack = AttackOptions("stripes", budget=100, model="mlp", epochs=1)
    return config(SMALL_VICTIM, attack, runs=runs, data_dir=data_dir, **changes)
