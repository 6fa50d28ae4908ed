"""64 LeNet attackers: a sweep as the machine runs it best, as one program, and one attack after another.

    python benchmarks/sweep.py     # about 2 minutes on 2 CPU cores, seconds on a GPU

8 strengths of MAD × 8 seeds, each 640 queries and one epoch: 10 steps of training. What the sweep chooses by
itself must not be slower than 0.9 × one attack after another on a CPU, and 10 × faster on an accelerator.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from harness import Row, paired, report, row
from pp_jax import MAD, BlackBox, attacks, models, sweep, training

NETWORK = models.lenet(10)
QUERIES = 640
RECIPE = training.Recipe(epochs=1)


def attacks_of(strengths: int, seeds: int) -> Iterator[sweep.Theft]:
    """Strengths × seeds of MAD in front of one victim."""
    shape = (28, 28, 1)
    victim = NETWORK.init(jax.random.key(100), shape)
    for seed in range(seeds):
        attack_key, model_key, surrogate_key = jax.random.split(jax.random.key(seed), 3)
        surrogate = NETWORK.init(surrogate_key, shape)
        for epsilon in np.linspace(0.1, 1.5, strengths):
            box = BlackBox(NETWORK, victim, MAD(NETWORK, surrogate, float(epsilon)))
            yield sweep.Theft(box, attack_key, model_key)


def rows(repeats: int = 3, strengths: int = 8, seeds: int = 8) -> list[Row]:
    """The sweep's own choice, and all attacks as one program, against `collect` and `fit` for each."""
    runs = list(attacks_of(strengths, seeds))
    pool = np.random.default_rng(0).integers(0, 256, (2000, 28, 28, 1)).astype(np.uint8)
    plans: dict[sweep.Way | None, str] = {}

    def alone() -> Any:
        params = []
        for one in runs:
            taken = attacks.collect(one.attack_key, attacks.Knockoff(), pool, one.box.api(), budget=QUERIES)
            params.append(training.fit(one.thief_key, NETWORK, taken.images, taken.answers, RECIPE))
        return params

    def swept(way: sweep.Way | None) -> Callable[[], Any]:
        def run() -> Any:
            tell = functools.partial(plans.__setitem__, way)
            found = sweep.run(runs, NETWORK, pool, RECIPE, budget=QUERIES, way=way, tell=tell)
            return [stolen.params for stolen in found]

        return run

    sides: dict[str, Callable[[], Any]] = {"alone": alone, "chosen": swept(None), "together": swept("vmap")}
    sides["chosen"]()
    apart = max(
        float(abs(a - b).max())
        for a, b in zip(*(jax.tree.leaves(sides[name]()) for name in ("alone", "together")), strict=True)
    )
    times = paired(sides, repeats=repeats, warmup=0)
    accelerated = jax.default_backend() != "cpu"
    bound, sense = (10, ">=") if accelerated else (0.9, ">=")
    details = {
        "device": jax.devices()[0].device_kind,
        "plan": plans[None],
        "parameters_apart": apart,
        "repeats": repeats,
    }
    name = f"one after another / sweep, {len(runs)} LeNet attackers"
    return [
        row(f"{name}, as it chooses", times.ratio("alone", "chosen"), bound, sense=sense, details=details),
        row(
            f"{name}, as one program",
            times.ratio("alone", "together"),
            bound if accelerated else 0,
            sense=sense,
            details={**details, **times.milliseconds("together", per=len(runs))},
        ),
    ]


if __name__ == "__main__":
    report(rows())
