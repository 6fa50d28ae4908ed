"""White-box evaluation: an attacker that learns online while the defense sees its weights (Orekondy et al. 2020)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pp_jax._checks import as_pixels, check_count, check_random_key
from pp_jax.attacks.spending import keeping
from pp_jax.gram.operator import LastLayer
from pp_jax.serving.blackbox import BlackBox
from pp_jax.solvers import objective
from pp_jax.training import Trainable, make_step, start
from pp_jax.types import Audit, Params, SurrogateDefense, TransferSet

Sees = Literal["attacker", "proxy", "fixed"]
"""What the defense takes for the attacker's weights: the attacker's own, a proxy's, or the surrogate it came with."""


class OnlineTheft(NamedTuple):
    """What it results in.

    Attributes:
        params: the stolen model's parameters after the last batch.
        transfer: the queried images and the responses, in order.
        audit: the defender's view: the clean posteriors, (n, K).
        deviations: of every query the angle in degrees, (n,), between the stolen model's last-layer gradients for the
            clean posterior and for the response, at the weights with which it learned from that response.
    """

    params: Params
    transfer: TransferSet
    audit: Audit
    deviations: np.ndarray


class Learners(NamedTuple):
    """Parameters and optimiser states, (params, opt_state), of the stolen model and of the proxy, if there is one."""

    thief: Any
    proxy: Any


def online(
    key: jax.Array,
    thief: Trainable,
    images: Any,
    box: BlackBox,
    *,
    optimizer: optax.GradientTransformation,
    sees: Sees = "attacker",
    proxy: Trainable | None = None,
    batch_size: int = 1,
    progress: Callable[[int], None] | None = None,
) -> OnlineTheft:
    """Steal online: query a batch, learn from the responses by one step, go on with the next.

    The defense's surrogate is, at every batch, the attacker's network as it is then ("attacker": perfect knowledge), a
    network trained alongside on the same responses from an initialisation of its own ("proxy": grey box), or left alone
    ("fixed").

    Args:
        key: randomness of the initialisations; the stolen model's does not depend on `sees`.
        thief: the attacker's network.
        images: what is queried, in this order, (n, H, W, C), uint8 or floating point in [0, 1].
        box: the victim and its defense; for "attacker" and "proxy" one with a field `surrogate`, such as `MAD`.
        optimizer: of the stolen model and the proxy, on the mean loss of a batch. Published, a query: SGD 0.1/64, the
            same with momentum 0.5, Adam 0.001/64.
        sees: what the defense sees.
        proxy: the network trained alongside, for "proxy" alone.
        batch_size: queries a step; the last batch may be smaller.
        progress: called with the number of queries of each batch.

    Returns:
        The stolen model's parameters, the transfer set of n queries, and the defender's view of them.

    Raises:
        ValueError: for a batch size below 1, images of a wrong rank, dtype or range, an unknown `sees`, a defense
            without a surrogate, a network of the attacker or proxy that is not the one whose weights the defense takes,
            a proxy that is missing or of no use, or a network with another number of classes than the victim.
        QueriesFailed: a ValueError with `transfer` and `spent`, for what goes wrong on the way, such as responses that
            are not finite. The black box is a local one, so that the same call makes the same queries again.
        QueriesStopped: a KeyboardInterrupt with the same.

    Source: Orekondy et al. 2020, white-box evaluation.
    """
    check_random_key(key)
    check_count("batch_size", batch_size, low=1)
    # Inside the compiled step their values cannot be looked at.
    images = as_pixels(images)
    _check_networks(thief, proxy, box, sees)
    thief_key, proxy_key = jax.random.split(key)
    shape = np.shape(images)[1:]
    begin = start(thief_key, thief, shape, optimizer)
    beside = None if proxy is None else start(proxy_key, proxy, shape, optimizer)
    learners = Learners(begin.carry, None if beside is None else beside.carry)
    # Donated step by step: what a network's `init` returned may belong to the caller (a warm start).
    learners = jax.tree.map(jnp.array, learners)
    _check_classes(thief, begin.params, images, box)
    run = _compiled(thief, proxy, optimizer, sees)
    taken = _Taken(images, [])
    with keeping(taken, None, resumable=False):
        for first in range(0, len(images), batch_size):
            batch = images[first : first + batch_size]
            taken.spent += len(batch)
            learners, outcome = run(learners, box, batch)
            taken.seen.append(outcome)
            if progress is not None:
                progress(len(batch))
        answers, probs, deviations = taken.fetched()
        if broken := int((~np.isfinite(answers)).any(axis=1).sum()):
            raise ValueError(f"the black box's answers must be finite: {broken} of {len(answers)} rows are not")
    return OnlineTheft(
        learners.thief[0], TransferSet(np.asarray(images), answers), Audit(jnp.asarray(probs)), deviations
    )


@dataclasses.dataclass
class _Taken:
    """What a theft has so far: responses, posteriors and angles of every batch, still on the device."""

    images: Any
    seen: list[tuple[jax.Array, ...]]
    spent: int = 0

    @property
    def budget(self) -> int:
        """Queries in all."""
        return len(self.images)

    @property
    def transfer(self) -> TransferSet:
        """The queries up to the first response that is not finite."""
        if not self.seen:
            return TransferSet(np.asarray(self.images[:0]), np.empty((0, 0)))
        answers, *_ = self.fetched()
        whole = int(np.cumprod(np.isfinite(answers).all(axis=1)).sum())
        return TransferSet(np.asarray(self.images[:whole]), answers[:whole])

    def fetched(self) -> list[np.ndarray]:
        """All three on the host."""
        return [np.concatenate(jax.device_get(parts)) for parts in zip(*self.seen, strict=True)]


@functools.lru_cache(maxsize=32)
def _compiled(
    thief: Trainable, proxy: Trainable | None, optimizer: optax.GradientTransformation, sees: Sees
) -> Callable[..., Any]:
    """One jitted step for a batch: victim, defense against the weights of now, loss, update; learners are donated."""
    learn = make_step(thief, optimizer)
    follow = None if proxy is None else make_step(proxy, optimizer)

    def run(learners: Learners, box: BlackBox, images: jax.Array) -> tuple[Learners, tuple[jax.Array, ...]]:
        answers, audit = _seeing(box, learners, sees)(images)
        # The same forward pass as in the step: compiled once.
        logits, _ = thief.train(learners.thief[0], images)
        deviations = jax.vmap(_deviation)(audit.probs, answers, logits)
        after, _ = learn(learners.thief, images, answers)
        beside = None if follow is None else follow(learners.proxy, images, answers)[0]
        return Learners(after, beside), (answers, audit.probs, deviations)

    return jax.jit(run, donate_argnums=0)


def _seeing(box: BlackBox, learners: Learners, sees: Sees) -> BlackBox:
    """The black box with the weights that its defense sees."""
    if sees == "fixed":
        return box
    surrogate, _ = learners.thief if sees == "attacker" else learners.proxy
    defense: Any = box.defense
    return dataclasses.replace(box, defense=dataclasses.replace(defense, surrogate=surrogate))


def _deviation(probs: jax.Array, answer: jax.Array, logits: jax.Array) -> jax.Array:
    """Degrees between the last-layer gradients for the clean posterior and for the response."""
    p = jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    return objective.deviation(probs, answer, LastLayer(p))


def _check_networks(thief: Trainable, proxy: Trainable | None, box: BlackBox, sees: Sees) -> None:
    """Refuse weights that do not fit into the defense."""
    if sees not in get_args(Sees):
        raise ValueError(f"sees must be one of {', '.join(get_args(Sees))}, not {sees!r}")
    if (proxy is not None) != (sees == "proxy"):
        raise ValueError(f"a proxy network is needed for sees='proxy' and for nothing else: sees={sees!r}, {proxy=}")
    if sees == "fixed":
        return
    name = type(box.defense).__name__
    if not isinstance(box.defense, SurrogateDefense):
        raise ValueError(f"sees={sees!r} needs a defense with a surrogate, such as MAD, not {name}")
    network = thief if sees == "attacker" else proxy
    if (expected := box.defense.logits_fn) != network:
        raise ValueError(f"the {sees} must be the network whose weights {name} takes, {expected}, not {network}")


def _check_classes(thief: Trainable, params: Params, images: Any, box: BlackBox) -> None:
    """Refuse a network with another number of classes than the victim."""
    logits, _ = jax.eval_shape(thief.train, params, images[:1])
    probs = jax.eval_shape(box.logits_fn, box.params, images[0])
    if logits.shape[-1] != probs.shape[-1]:
        raise ValueError(f"the thief knows {logits.shape[-1]} classes, the victim {probs.shape[-1]}")
