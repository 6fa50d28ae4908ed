"""What the later defenses cost: ModelGuard-W against an LP solver, GRAD² against MAD and one JVP.

    python benchmarks/modelguard.py    # about a minute on 2 idle cores

ModelGuard-W perturbs a batch of Dirichlet posteriors at K = 100; scipy's HiGHS solves the first of them one by one,
and both reach the same values. GRAD² (direction of ones) is timed against MAD with the last layer plus one bare JVP of
the surrogate's log-posterior, each a program on finished posteriors. The overhead of each defense is that of
`query_time.py`; the ensemble of EDM counts its five forward passes. Networks are untrained; seeds are fixed.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness import Row, agree, paired, report, row
from mad import EPSILON, Setting, Thunk, setting
from pp_jax import MAD, BlackBox, models, novelty, perturb
from pp_jax.defenses import (
    BDPL,
    DCP,
    EDM,
    GRAD2,
    AdaptiveMisinformation,
    HighConfidence,
    KeyedSwap,
    ModelGuardS,
    ModelGuardW,
    grad2,
    keyed_swap,
)
from pp_jax.serving.perturbation import perturb_sequence
from pp_jax.types import Defense
from query_time import beyond

KEY = jax.random.key(0)
MARGIN, OFFSET, BUDGET = 1e-4, 1e-6, 1.0


def by_solver(y: np.ndarray) -> np.ndarray:
    """ModelGuard-W's response to one posterior by scipy's HiGHS, (K,)."""
    from scipy.optimize import linprog

    classes, top = len(y), int(y.argmax())
    eye, none = np.eye(classes), np.zeros((classes, classes))
    above = np.delete(eye, top, 0) - eye[top]
    rows = np.block([[eye, -eye], [-eye, -eye], [np.zeros((1, classes)), np.ones((1, classes))], [above, none[1:]]])
    limits = np.concatenate([y, -y, [BUDGET], np.full(classes - 1, -MARGIN)])
    cost = np.concatenate([np.log(y + OFFSET), np.zeros(classes)])
    total = np.concatenate([np.ones(classes), np.zeros(classes)])[None]
    found = linprog(cost, rows, limits, total, [1.0], method="highs")
    if found.status != 0:
        raise RuntimeError(f"HiGHS found no optimum: {found.message}")
    return found.x[:classes]


def solver_row(*, classes: int, batch: int, solved: int, repeats: int) -> Row:
    """HiGHS's time a posterior over ours."""
    y = np.random.default_rng(0).dirichlet(np.ones(classes), batch).astype(np.float32)
    images = jnp.zeros((batch, 1, 1, 1), jnp.uint8)
    ours: Thunk = functools.partial(perturb, ModelGuardW(BUDGET), jnp.asarray(y), images)

    def theirs() -> np.ndarray:
        return np.stack([by_solver(one.astype(np.float64) / one.sum(dtype=np.float64)) for one in y[:solved]])

    cost = np.log(y[:solved] + OFFSET)
    agree("ModelGuard-W", (np.asarray(ours())[:solved] * cost).sum(1), (theirs() * cost).sum(1))
    times = paired({"ours": ours, "HiGHS": theirs}, repeats=repeats)
    return row(
        f"HiGHS / ModelGuard-W, a posterior, K={classes}, batch {batch}",
        times.ratio("HiGHS", "ours") * batch / solved,
        1000,
        sense=">=",
        details={
            "ours_a_query": times.milliseconds("ours", per=batch),
            "HiGHS_a_query": times.milliseconds("HiGHS", per=solved),
            "ratio_of_minima": times.minimum("HiGHS") / times.minimum("ours") * batch / solved,
            "repeats": repeats,
        },
    )


def redirection_row(case: Setting, *, repeats: int) -> Row:
    """GRAD² over MAD with the last layer plus one JVP."""
    ones = grad2.all_ones(case.surrogate)
    _, audit = BlackBox(case.network, case.victim)(case.images)

    @jax.jit
    def tangents(surrogate: Any, direction: Any, images: jax.Array) -> jax.Array:
        redirection = GRAD2(case.network, surrogate, EPSILON, direction)
        return jax.vmap(redirection.gain)(audit.probs, images)

    def alone(defense: Defense) -> Thunk:
        return functools.partial(perturb, defense, audit.probs, case.images, check=False)

    mad = alone(MAD(case.network, case.surrogate, EPSILON))

    def both() -> tuple[jax.Array, jax.Array]:
        return mad(), tangents(case.surrogate, ones, case.images)

    times = paired({"GRAD²": alone(GRAD2(case.network, case.surrogate, EPSILON, ones)), "both": both}, repeats=repeats)
    details = {name: times.milliseconds(name, per=len(case.images)) for name in times.wall} | {"repeats": repeats}
    return row(
        f"GRAD² / (MAD last layer + one JVP), {case.label}, batch {len(case.images)}",
        times.ratio("GRAD²", "both"),
        1.2,
        details=details,
    )


def defenses(case: Setting) -> dict[str, Defense]:
    """The later defenses; their time does not depend on their strength."""
    ensemble = jax.tree.map(lambda leaf: jnp.stack([leaf] * 5), case.victim)
    classes = jax.eval_shape(case.network, case.victim, case.images[0]).shape[0]
    detector = novelty.fit(case.network, case.victim, case.images, np.arange(len(case.images)) % classes)
    return {
        "GRAD²": GRAD2(case.network, case.surrogate, EPSILON, grad2.all_ones(case.surrogate)),
        "GRAD², minimum inner product": GRAD2(case.network, case.surrogate, EPSILON),
        "ModelGuard-W": ModelGuardW(BUDGET),
        "adaptive misinformation": AdaptiveMisinformation(case.network, case.surrogate, 0.5),
        "EDM, 5 models": EDM(case.network, ensemble),
        "BDPL": BDPL(0.2, 1.0),
        "DCP": DCP(0.5),
        "high confidence": HighConfidence(0.1),
        "keyed swap": KeyedSwap(detector, keyed_swap.random_partners(KEY, classes)),
    }


def defense_rows(case: Setting, *, repeats: int) -> list[Row]:
    """Microseconds a query beyond the victim's, for information."""
    victim = BlackBox(case.network, case.victim)
    boxes: dict[str, Thunk] = {"undefended": functools.partial(victim, case.images)}
    for name, defense in defenses(case).items():
        boxes[name] = functools.partial(BlackBox(case.network, case.victim, defense, key=KEY), case.images)
    times = paired(boxes, repeats=repeats)
    return [beyond(name, times, case) for name in boxes if name != "undefended"]


def memory_row(case: Setting, *, classes: int, repeats: int) -> Row:
    """ModelGuard-S, one query after the other from an empty memory, for information."""
    _, audit = BlackBox(case.network, case.victim)(case.images)
    defense = ModelGuardS(BUDGET, classes)
    sequence = functools.partial(perturb_sequence, defense, defense.init(), audit.probs, case.images, key=KEY)
    times, count = paired({"ours": sequence}, repeats=repeats), len(case.images)
    return row(
        f"ModelGuard-S: µs a query on finished posteriors, {case.label}, sequence of {count} (for information)",
        1e6 * times.median("ours") / count,
        math.inf,
        details={"a_query": times.milliseconds("ours", per=count), "repeats": repeats},
    )


def rows(*, batch: int = 256, repeats: int = 20) -> list[Row]:
    """The whole table."""
    table = [solver_row(classes=100, batch=16 * batch, solved=8, repeats=repeats)]
    for classes in (10, 100):
        case = setting(f"LeNet K={classes}", models.lenet(classes), (28, 28, 1), batch)
        table += [redirection_row(case, repeats=repeats), *defense_rows(case, repeats=repeats)]
        table.append(memory_row(case, classes=classes, repeats=3))
    return table


if __name__ == "__main__":
    report(rows())
