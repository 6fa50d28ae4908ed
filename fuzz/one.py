"""One target under atheris: `python -m fuzz.one NAME FOUND ROOM [options of libFuzzer]`; `python -m fuzz` runs all.

Every distinct fault is kept once, as the shortest input that shows it and its description, and the run goes on.
"""

import random
import shutil
import sys
from pathlib import Path

import atheris

NAME, FOUND, ROOM = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

# Modules whose coverage guides the fuzzer.
INSTRUMENTED = (
    "pp_jax", "PIL", "gzip", "json", "numpy.lib", "pickle", "safetensors", "tarfile", "zipfile",
)  # fmt: skip
for module in list(sys.modules):
    # Only what is imported for the first time is instrumented.
    if module.split(".")[0] in INSTRUMENTED:
        del sys.modules[module]
with atheris.instrument_imports(include=INSTRUMENTED):
    from fuzz import bounds, mutation
    from fuzz.targets import TARGETS

    TARGETS[NAME].warm_up(ROOM / "first")


def main() -> None:
    """Run the target until libFuzzer's options end it."""
    target = TARGETS[NAME]
    smallest: dict[str, int] = {}
    mutate = mutation.safely(target.mutate) if target.mutate is not None else None

    def test_one(data: bytes) -> None:
        folder = ROOM / "case"
        folder.mkdir()
        fault = watch.fault(target.read, target.refusals, data, folder)
        shutil.rmtree(folder)
        if fault is not None and len(data) < smallest.get(fault.kind, bounds.MAX_BYTES + 1):
            smallest[fault.kind] = len(data)
            keep(fault, data, list(smallest).index(fault.kind))

    def custom(data: bytes, max_size: int, seed: int) -> bytes:
        assert mutate is not None
        return mutate(data, random.Random(seed), lambda part: atheris.Mutate(part, max_size))[:max_size]

    # libFuzzer ends the process itself: nothing is closed.
    watch = bounds.Watch().__enter__()
    atheris.Setup([sys.argv[0], *sys.argv[4:]], test_one, custom_mutator=custom if mutate else None)
    atheris.Fuzz()


def keep(fault: bounds.Fault, data: bytes, number: int) -> None:
    """Write an input that shows a fault, and what the fault is."""
    FOUND.mkdir(parents=True, exist_ok=True)
    (FOUND / f"{number:03}.input").write_bytes(data)
    with (FOUND / f"{number:03}.txt").open("w", errors="backslashreplace") as file:
        bounds.described(file, fault)


if __name__ == "__main__":
    main()
