"""A round of data-free stealing against the training of the clone alone: what the generator adds.

    python benchmarks/data_free.py     # about 1 minute on 2 idle cores

DFME with a LeNet clone and a generator of width 16, batches of 64: asking, learning from given responses, and the
generator's step, against as many LeNet training steps on such images. The victim's time does not count.
For information: no bound is set.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from harness import Row, compared, report
from pp_jax import attacks, models
from pp_jax.attacks import data_free
from pp_jax.training import make_step, start

SHAPE = (28, 28, 1)


def rows(repeats: int = 15, *, network: Any = None, batch: int = 64, width: int = 16) -> list[Row]:
    """One row: a round over its clone's steps alone."""
    network = network or models.lenet(10)
    method = dataclasses.replace(
        data_free.for_small_budgets(attacks.dfme(network, 10**6)),
        batch_size=batch,
        generator=models.Generator(width=width, last_norm="learned"),
    )
    answers = np.random.default_rng(0).dirichlet(np.ones(10), method.queries).astype(np.float32)
    name = f"DFME round, {method.clone_steps} × {batch} images / the clone's steps alone (for information)"
    return [compared(name, _round(method, answers), _steps(method, answers), float("inf"), repeats=repeats)]


def _round(method: Any, answers: np.ndarray) -> Callable[[], Any]:
    """A function that plays the next round."""
    state = method.begin(jax.random.key(0), SHAPE)

    def run() -> Any:
        nonlocal state
        state = method.tell(state, method.ask(state), answers)
        return state.clones

    return run


def _steps(method: Any, answers: np.ndarray) -> Callable[[], Any]:
    """A function that trains a clone for a round's steps on given images."""
    optimizer = method.learning.optimizer(method.rounds * method.clone_steps)
    step = jax.jit(make_step(method.network, optimizer))
    carry = start(jax.random.key(0), method.network, SHAPE, optimizer).carry
    images = method.ask(method.begin(jax.random.key(0), SHAPE))
    size = method.batch_size
    batches = [(images[i : i + size], answers[i : i + size]) for i in range(0, method.clone_steps * size, size)]

    def run() -> Any:
        nonlocal carry
        carry = functools.reduce(lambda carry, batch: step(carry, *batch)[0], batches, carry)
        return carry

    return run


if __name__ == "__main__":
    report(rows())
