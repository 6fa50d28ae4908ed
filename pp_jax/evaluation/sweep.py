"""Many thefts of one pool: all at once, some at a time, or one after another, whichever the machine does best.

    thefts = [sweep.Theft(BlackBox(network, victim, mad(epsilon)), *keys[seed]) for epsilon in … for seed in …]
    for stolen in sweep.run(thefts, network, pool, recipe, budget=10_000): …

What sets the thefts apart (defense, seed, initialisation) is data, so a grid of defenses × strengths × seeds trains as
one program. Only random Knockoff is batched: a strategy that chooses its queries by the responses is a loop of its own.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pp_jax import attacks, training
from pp_jax.parallel import DATA, check_mesh
from pp_jax.serving.blackbox import BlackBox
from pp_jax.types import Params

Way = Literal["vmap", "chunk", "loop"]
"""All thefts in one program, some at a time, or one after another."""

# Of the memory that is free: the allocator needs some room, and so do the responses.
_SHARE = 0.8
_QUERIES_AT_ONCE = 1024


class Theft(NamedTuple):
    """One run of a sweep: what sets it apart from the others.

    Attributes:
        box: the victim behind the defense of this run.
        attack_key: randomness of the queries.
        thief_key: randomness of the stolen model's initialisation and training.
        params: where the stolen model starts; fresh by default.
    """

    box: BlackBox
    attack_key: jax.Array
    thief_key: jax.Array
    params: Params | None = None


class Stolen(NamedTuple):
    """What one theft results in.

    Attributes:
        params: of the stolen model.
        rows: (budget,), what was queried: pool[rows].
        answers: the responses, (budget, K).
    """

    params: Params
    rows: np.ndarray
    answers: Any


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a sweep is run, and why.

    Attributes:
        way: all at once, some at a time, or one after another.
        at_once: thefts in one program.
        reason: in words.
    """

    way: Way
    at_once: int
    reason: str

    def __str__(self) -> str:
        """One line for the terminal."""
        words = {"vmap": "all thefts as one program", "chunk": f"{self.at_once} thefts at a time"}
        return f"{words.get(self.way, 'one theft after another')}: {self.reason}"


def plan(
    count: int, bytes_each: Callable[[], int], *, way: Way | None = None, memory: int | None = None, devices: int = 1
) -> Plan:
    """Decide how `count` thefts are run.

    On a CPU one after another: its cores are busy with one network, and a batched program has less to reuse. On an
    accelerator as many at once as memory holds.

    Args:
        count: how many thefts.
        bytes_each: what one of them takes while it is trained; only called where it matters.
        way: the caller's choice; by the hardware by default.
        memory: bytes that the thefts may take on each device; most of what is free there by default.
        devices: over how many devices the thefts are spread.

    Returns:
        The plan; those of "chunk" are of equal size.

    Raises:
        ValueError: for a way that does not exist, or memory that is too small for one theft.
    """
    if way not in (None, *get_args(Way)):
        raise ValueError(f"way is {way!r}: must be one of {', '.join(get_args(Way))}")
    device = jax.devices()[0]
    if way is None and device.platform == "cpu" and devices == 1:
        return Plan("loop", 1, f"{device.device_kind} does its best with one")
    if way == "loop" or count == 1:
        return Plan("loop", 1, "as asked" if way == "loop" else "there is only one")
    if way == "vmap":
        return Plan("vmap", count, "as asked")
    each, memory = bytes_each(), free_memory(device) if memory is None else memory
    if memory < each:
        raise ValueError(f"memory is {memory} bytes: one theft takes {each}")
    fit = min(count, devices * (memory // each))
    chunks = math.ceil(count / fit)
    at_once = devices * math.ceil(count / chunks / devices)
    reason = f"each takes {each / 2**20:.0f} MiB, {memory / 2**30:.1f} GiB are free on {device.device_kind}"
    return Plan("vmap" if chunks == 1 else "chunk", at_once, reason)


def free_memory(device: jax.Device) -> int:
    """Bytes that may be taken on a device: four fifths of what is free."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        free = stats["bytes_limit"] - stats["bytes_in_use"]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(_SHARE * free)


def run(
    thefts: Sequence[Theft],
    thief: Any,
    pool: Any,
    recipe: training.Recipe,
    *,
    budget: int,
    top1: bool = False,
    way: Way | None = None,
    memory: int | None = None,
    mesh: Mesh | None = None,
    tell: Callable[[str], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[Stolen]:
    """Run thefts by random Knockoff; each comes out as `attacks.collect` and `training.fit` alone would make it.

    One after another, that is exactly what is done. At once, the same random numbers are drawn; responses differ by the
    rounding of a forward pass in another batch, at most 1e-5 where no response sits on a tie, and parameters by what
    training makes of that.

    Args:
        thefts: the runs.
        thief: the attacker's network, as for `training.fit`.
        pool: what is queried, (N, H, W, C), N ≥ budget.
        recipe: how every stolen model is trained.
        budget: queries of each.
        top1: train on the hard labels of the responses.
        way: how; by hardware and memory by default, see `plan`.
        memory: bytes that thefts may take on each device.
        mesh: devices, over whose axis "data" the thefts are spread.
        tell: called with the plan in words.
        progress: called with the share of all that is done.

    Yields:
        What each theft results in, in their order.

    Raises:
        ValueError: for a budget beyond the pool, thefts of which only some have `params`, or what `plan` refuses.
    """
    if not 1 <= budget <= len(pool):
        raise ValueError(f"budget is {budget}: must be at least 1 and at most {len(pool)}, the images of the pool")
    if len({theft.params is None for theft in thefts}) > 1:
        raise ValueError("all thefts must have params, or none")
    if not thefts:
        return
    check_mesh(mesh)
    devices = 1 if mesh is None else mesh.shape[DATA]
    chosen = plan(
        len(thefts),
        lambda: _bytes_each(thefts[0], thief, pool, recipe, budget),
        way=way,
        memory=memory,
        devices=devices,
    )
    if tell is not None:
        tell(str(chosen))
    tell_share = progress or (lambda share: None)
    if chosen.way == "loop":
        for number, theft in enumerate(thefts):
            yield _alone(theft, thief, pool, recipe, budget, top1)
            tell_share((number + 1) / len(thefts))
        return
    on_device = jnp.asarray(pool)
    for first in range(0, len(thefts), chosen.at_once):
        part = thefts[first : first + chosen.at_once]

        def hear(epoch: int, done: int = first, size: int = len(part)) -> None:
            tell_share((done + size * epoch / recipe.epochs) / len(thefts))

        # The last part is filled up, so that one program serves all.
        filled = [*part, *[part[-1]] * (chosen.at_once - len(part))]
        yield from _together(filled, thief, on_device, recipe, budget, top1, mesh, hear)[: len(part)]


def _alone(theft: Theft, thief: Any, pool: Any, recipe: training.Recipe, budget: int, top1: bool) -> Stolen:
    """One theft, as without a sweep."""
    rows = _rows(theft, len(pool), budget)
    stolen = attacks.collect(theft.attack_key, attacks.Knockoff(), pool, theft.box.api(), budget=budget)
    targets = stolen.answers.argmax(axis=1) if top1 else stolen.answers
    params = training.fit(theft.thief_key, thief, stolen.images, targets, recipe, params=theft.params)
    return Stolen(params, rows, stolen.answers)


def _together(
    thefts: Sequence[Theft],
    thief: Any,
    pool: jax.Array,
    recipe: training.Recipe,
    budget: int,
    top1: bool,
    mesh: Mesh | None,
    on_epoch: Callable[[int], None],
) -> list[Stolen]:
    """Several thefts as one program; images, responses and targets stay on the device."""
    rows = np.stack([_rows(theft, len(pool), budget) for theft in thefts])
    answers = []
    for theft, own in zip(thefts, rows, strict=True):
        box = dataclasses.replace(theft.box, batch_size=_QUERIES_AT_ONCE)
        answers.append(box(pool[own])[0])
    given = jnp.stack(answers)
    starts = None if thefts[0].params is None else jax.tree.map(lambda *a: jnp.stack(a), *(t.params for t in thefts))
    params = training.fit_many(
        jnp.stack([theft.thief_key for theft in thefts]),
        thief,
        training.Sets(pool, rows, jnp.argmax(given, axis=-1) if top1 else given),
        recipe,
        params=starts,
        mesh=mesh,
        on_epoch=on_epoch,
    )
    return [Stolen(jax.tree.map(lambda leaf, i=i: leaf[i], params), rows[i], given[i]) for i in range(len(thefts))]


def _rows(theft: Theft, size: int, budget: int) -> np.ndarray:
    """What random Knockoff queries."""
    return attacks.Knockoff().init(theft.attack_key, np.empty((size, 0))).order[:budget]


def _bytes_each(theft: Theft, thief: Any, pool: Any, recipe: training.Recipe, budget: int) -> int:
    """What one theft takes on a device: its training, and its transfer set as rows and responses."""
    image = jax.ShapeDtypeStruct(np.shape(pool)[1:], jnp.result_type(pool))
    classes = jax.eval_shape(theft.box.logits_fn, theft.box.params, image).shape[-1]
    return training.bytes_each(thief, pool, classes, recipe) + budget * 4 * (classes + 1)
