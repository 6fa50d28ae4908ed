"""A training and an evaluation of seconds, what they come to, and how to kill them while they are at work."""

import random
import subprocess
import time

import jax
import numpy as np

from pp_jax import checkpoints, records
from scripts import SMALL, THEFT, ended, start

KILLS = 8
OWN = tuple(word.replace("victim.", "") for word in SMALL)
TRAINING = (*OWN, "--model", "mlp", "--epochs", "40", "--decay-every", "15")
SWEEP = (
    *(*SMALL, "--victim.model", "mlp", *THEFT, "--attack.model", "mlp", "--attack.learning-rate", "0.01"),
    *("--defense", "none", "MAD(epsilon=0.5)", "Rounding(decimals=1)", "--attackers", "plain", "inversion"),
    *("--seeds", "0", "1", "2"),
)
RUNS = 12
"""Three defenses meet the plain attacker and one of them the inversion, with three seeds each."""


def trained(runs):
    """The weights as bytes, and the record, of the only victim of a folder; nothing else is left of its training."""
    (weights,) = (runs / "victims").glob("*.safetensors")
    allowed = {".claims", weights.name, weights.with_suffix(".json").name}
    assert {path.name for path in visible(weights.parent)} == allowed
    (record,) = records.load_all(runs / "victims", kind="victim")
    params, metadata = checkpoints.load(weights)
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    # The files differ in the order of their headers' entries, which safetensors leaves to chance.
    exact = {jax.tree_util.keystr(path): (str(leaf.dtype), np.asarray(leaf).tobytes()) for path, leaf in leaves}
    return exact, metadata, record.config, record.result


def swept(runs):
    """Configurations and results of all runs of a folder, and its table."""
    folder = runs / "worst_case"
    found = {run.path.name: (run.config, run.result) for run in records.load_all(folder, kind="tradeoff")}
    assert len(found) == RUNS
    allowed = {".claims", "worst_case.md", "worst_case.png", "report.html", *found}
    assert {path.name for path in visible(folder)} == allowed
    return found, (folder / "worst_case.md").read_text("utf-8")


def visible(folder):
    """What a folder holds but for what nothing reads: hidden temporary files that kills leave, damaged records."""
    hidden = set(folder.glob(".*.tmp"))
    return [path for path in folder.iterdir() if path not in hidden and path.suffix != ".damaged"]


def stamps(runs, *patterns):
    """When the files of a folder were last opened for writing."""
    found = {}
    for path in (path for pattern in patterns for path in runs.glob(pattern)):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # Its process has just removed it.
            continue
    return found


def kept(runs):
    """Changes with every epoch that a training keeps."""
    return stamps(runs, "victims/*.partial/*/*/seal.json")


def claimed(runs):
    """Changes with every victim and every run that an evaluation begins."""
    return stamps(runs, "*/.claims/*.lock")


def killed(process, at_work, delay):
    """Kill a process so many seconds after it was seen to work; whether that was before its end."""
    deadline = time.monotonic() + 120
    while process.poll() is None and not at_work():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()
    status, text = ended(process)
    assert status in (0, -9), text
    return status == -9


def survive(name, options, folder, common, *, sign, longest, seed):
    """Run a script, killed several times at random moments while it is at work, to its end.

    Where it comes to its end before that, it begins anew in another folder.

    Args:
        name: of the script.
        options: of the script.
        folder: of the folders of results.
        common: what all its processes share.
        sign: of a folder of results: it changes when a process works.
        longest: seconds from its first change to a kill.
        seed: of the moments.

    Returns:
        The folders of results, all of them finished, and what `sign` had seen at each kill.
    """
    rng, runs, seen = random.Random(seed), [folder / "0"], []
    while len(seen) < KILLS:
        before = sign(runs[-1])
        process = start(name, "--runs", runs[-1], *options, **common)
        if killed(process, lambda before=before: sign(runs[-1]) != before, rng.uniform(0, longest)):
            seen.append(sign(runs[-1]))
        else:
            runs.append(folder / str(len(runs)))
    status, text = ended(start(name, "--runs", runs[-1], *options, **common))
    assert status == 0, text
    return runs, seen
