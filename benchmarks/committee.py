"""A committee of five LeNet substitutes: as one program, and one after another; and what a round of queries costs.

    python benchmarks/committee.py     # about a minute on 2 idle CPU cores

Army of Thieves trains five networks on the same responses in every round. `training.fit_many` trains them as one
program, `training.fit` one after another; both make the same networks up to rounding. On a CPU one program has less to
reuse than one network (see `sweep.py`), so no bound is set there; on an accelerator it must be 3 × faster. The other
rows, for information, are what choosing from 1000 images costs, in posteriors of as many images.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from harness import Row, paired, report, row
from pp_jax import models, training
from pp_jax.attacks import DFAL, Entropy, KCenter, Known
from pp_jax.attacks.stages import substitutes
from pp_jax.training.predicting import predict

NETWORK = models.lenet(10)
MEMBERS = 5


def rows(repeats: int = 3, queries: int = 640, candidates: int = 1000, network: Any = NETWORK) -> list[Row]:
    """Training of a committee, and the rules of choice."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (queries, 28, 28, 1)).astype(np.uint8)
    pool = rng.integers(0, 256, (candidates, 28, 28, 1)).astype(np.uint8)
    answers = rng.dirichlet(np.ones(10), queries).astype(np.float32)
    key, recipe = jax.random.key(0), training.Recipe(epochs=1)

    def alone() -> Any:
        return [training.fit(own, network, images, answers, recipe) for own in jax.random.split(key, MEMBERS)]

    def together() -> Any:
        return substitutes(key, network, images, answers, recipe, members=MEMBERS)[1]

    times = paired({"alone": alone, "together": together}, repeats=repeats)
    accelerated = jax.default_backend() != "cpu"
    details = {"device": jax.devices()[0].device_kind, "repeats": repeats} | {
        side: times.milliseconds(side, per=MEMBERS) for side in ("alone", "together")
    }
    name = f"one after another / committee of {MEMBERS} LeNets as one program, {queries // 64} steps"
    found = [row(name, times.ratio("alone", "together"), 3 if accelerated else 0, sense=">=", details=details)]
    known = Known(network, (alone()[0],), images, answers, queries)

    def choosing(rule: Any) -> Callable[[], Any]:
        return lambda: rule(key, known, pool, 64)

    rules: dict[str, Callable[[], Any]] = {
        "entropy": choosing(Entropy()),
        "k-center": choosing(KCenter()),
        "DFAL": choosing(DFAL()),
    }
    taken = paired({"posteriors": lambda: predict(network, known.members[0], pool), **rules}, repeats=repeats)
    for rule in rules:
        name = f"{rule}, choosing from {candidates} images / their posteriors (for information)"
        figures = {"choosing": taken.milliseconds(rule), "repeats": repeats}
        found.append(row(name, taken.ratio(rule, "posteriors"), float("inf"), details=figures))
    return found


if __name__ == "__main__":
    report(rows())
