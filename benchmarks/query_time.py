"""What each defense of the paper adds to a query: microseconds beyond the undefended victim.

    python benchmarks/query_time.py    # about half a minute on 2 idle cores

An untrained LeNet (10 and 100 classes) answers 256 images of noise; MAD's surrogate is another one. The figure is the
median over turns of the defended black box's time less the undefended one's, divided by the images: for MAD it includes
the surrogate's forward pass. Defenses without a surrogate cost so little beside the victim that the difference is
mostly the scatter of the latter, and may be negative; what they cost on finished posteriors stands in the details.
The rows are for information. Seeds are fixed.
"""

import functools
import math
from typing import Any

import jax

from harness import Row, Times, paired, report, row
from mad import EPSILON, Setting, Thunk, setting
from pp_jax import MAD, BlackBox, RandomNoise, ReverseSigmoid, Rounding, TopK, models, perturb
from pp_jax.types import Defense

KEY = jax.random.key(0)


def defenses(case: Setting) -> dict[str, Defense]:
    """The paper's defenses; their time does not depend on their strength."""
    return {
        "MAD": MAD(case.network, case.surrogate, EPSILON),
        "MAD-argmax": MAD.argmax_preserving(case.network, case.surrogate, EPSILON),
        "reverse sigmoid": ReverseSigmoid(0.5),
        "random noise": RandomNoise(1.0),
        "top-k": TopK(3),
        "rounding": Rounding(2),
    }


def defense_rows(case: Setting, *, repeats: int) -> list[Row]:
    """Microseconds a query of every defense, and how they relate to the undefended victim's."""
    victim = BlackBox(case.network, case.victim)
    _, audit = victim(case.images)
    boxes: dict[str, Thunk] = {"undefended": functools.partial(victim, case.images)}
    alone: dict[str, Thunk] = {}
    for name, defense in defenses(case).items():
        boxes[name] = functools.partial(BlackBox(case.network, case.victim, defense, key=KEY), case.images)
        alone[name] = functools.partial(perturb, defense, audit.probs, case.images, key=KEY)
    times, alone_times = paired(boxes, repeats=repeats), paired(alone, repeats=repeats)
    return [
        beyond(name, times, case, on_finished_posteriors_a_query=alone_times.milliseconds(name, per=len(case.images)))
        for name in alone
    ]


def beyond(name: str, times: Times, case: Setting, **details: Any) -> Row:
    """What a defended black box takes beyond the one called "undefended", in microseconds a query, for information."""
    count = len(case.images)
    return row(
        f"{name}: µs a query beyond the victim's, {case.label}, batch {count} (for information)",
        1e6 * times.excess(name, "undefended") / count,
        math.inf,
        details={
            "share_of_undefended": times.overhead(name, "undefended"),
            "undefended_a_query": times.milliseconds("undefended", per=count),
            "defended_a_query": times.milliseconds(name, per=count),
            **details,
            "repeats": len(times.wall[name]),
        },
    )


def rows(*, batch: int = 256, repeats: int = 30) -> list[Row]:
    """The whole table."""
    cases = [setting(f"LeNet K={classes}", models.lenet(classes), (28, 28, 1), batch) for classes in (10, 100)]
    return [entry for case in cases for entry in defense_rows(case, repeats=repeats)]


if __name__ == "__main__":
    report(rows())
