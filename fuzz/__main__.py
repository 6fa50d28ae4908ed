"""Run the fuzzer on every reader: `python -m fuzz --cases 20000`; it needs the extra `fuzz`, and tests/helpers.

Each target runs in a process of its own, one after the other. What is found lies in the folder `--out`, by target: the
shortest input of every fault and its description. A finding that is mended becomes a file in tests/fuzz/cases.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fuzz import bounds
from fuzz.targets import TARGETS

# libFuzzer's own limit, in wall time: it ends what hangs. What a case may take is `bounds.MAX_SECONDS`.
HANGS_S = 20
CASES = Path(__file__).resolve().parents[1] / "tests" / "fuzz" / "cases"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the targets, print a line for each, and return 1 if there are faults."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)}; default: all")
    parser.add_argument("--cases", type=int, default=20_000, help="inputs that each is run on; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="folder of faults; default: %(default)s")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"there is no target {min(unknown)}; there are {', '.join(TARGETS)}")
    print(f"{'target':14} {'cases':>7} {'seconds':>8} {'coverage':>9} {'faults':>7}")
    found = sum(run(name, options.cases, options.seed, options.out / name) for name in options.targets or TARGETS)
    print(f"{found} faults" + (f"; see {options.out}" if found else ""))
    return 1 if found else 0


def run(name: str, cases: int, seed: int, out: Path) -> int:
    """Run one target, print its line, and return how many faults it has."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as room:
        corpus = Path(room) / "corpus"
        corpus.mkdir()
        inputs = [*TARGETS[name].seeds(), *(path.read_bytes() for path in sorted((CASES / name).glob("*")))]
        for number, data in enumerate(inputs):
            (corpus / f"{number:03}").write_bytes(data)
        limits = [
            f"-runs={cases}",
            f"-seed={seed}",
            f"-max_len={bounds.MAX_BYTES}",
            f"-rss_limit_mb={TARGETS[name].memory_mb}",
        ]
        limits += [f"-timeout={HANGS_S}", f"-artifact_prefix={out}/", "-print_final_stats=1", "-len_control=0"]
        command = [sys.executable, "-m", "fuzz.one", name, str(out), room, *limits, str(corpus)]
        start = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    (out / "log.txt").write_text(done.stdout + done.stderr)
    tried = re.findall(r"number_of_executed_units:\s*(\d+)", done.stderr)
    covered = re.findall(r"cov: (\d+)", done.stderr)
    # What ends the process (memory, a hang, a crash in C) leaves its input as oom-…, timeout-… or crash-….
    faults = len(list(out.glob("*.input"))) + (done.returncode != 0)
    numbers = (tried[-1] if tried else "?", f"{time.monotonic() - start:.0f}", covered[-1] if covered else "?")
    print(f"{name:14} {numbers[0]:>7} {numbers[1]:>8} {numbers[2]:>9} {faults:>7}", flush=True)
    return faults


if __name__ == "__main__":
    sys.exit(main())
