"""Networks that are trained once: parameters and a record beside them, found again by whoever asks next."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Made = tuple[Any, dict[str, Any]]
"""Parameters, and what there is to say of them."""


def kept(folder: Path, settings: dict[str, Any], like: Any, make: Callable[[], Made], *, kind: str) -> Any:
    """The parameters of settings, trained if they have not been; of several processes one trains, the others wait.

    Args:
        folder: of `<hash>.safetensors` and `<hash>.json`.
        settings: all that determines them, as the record has it.
        like: their shapes and types.
        make: trains them.
        kind: of the record.
    """
    from pp_jax import checkpoints, records

    weights = folder / f"{records.key(settings)}.safetensors"

    def ready() -> bool:
        return weights.exists() and records.find(folder, settings) is not None

    if not ready():
        records.check_writable(folder)
        with records.claim(folder, settings, wait=True):
            if not ready():
                started = time.perf_counter()
                params, result = make()
                checkpoints.save(weights, params, metadata=settings)
                timings = {"train_s": time.perf_counter() - started}
                records.write(folder, kind=kind, config=settings, result=result, timings=timings)
    return checkpoints.load(weights, like=like)[0]
