"""The neighbour attack: near images have near posteriors, so their responses tell how each of them was randomised."""

import dataclasses
import functools
import heapq
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array

from pp_jax._checks import as_array, as_pixels, as_transfer, check_count, check_random_key
from pp_jax.defenses.keyed_swap import KeyedSwap
from pp_jax.geometry import simplex
from pp_jax.recovery.knowledge import Knowledge, keys
from pp_jax.serving.answers import shaped
from pp_jax.serving.blackbox import API
from pp_jax.training import Recipe, State, Trainable, make_step, start
from pp_jax.training.predicting import predict
from pp_jax.types import Params, TransferSet

# Images are compared at a size that neither side of which is longer than this: memory does not grow with theirs.
_SIDE = 16
# Rows of the matrix of distances, and images resized, that exist at once.
_ROWS = 512
_MEAN_FIELD_STEPS, _DAMPING = 100, 0.5
# |m| of a belief is at most this in training: the network can overrule any.
_SURE = 0.999
# Two responses to one image but for a bit are exchanged where a log-probability differs by more.
_EXCHANGED = 0.5
_TINY = float(np.finfo(np.float32).tiny)


def infer_readings(images: Any, readings: Any, *, neighbours: int = 8, floor: float = 1e-6) -> np.ndarray:
    """Infer which of two readings of each response is the posterior, from the responses to near images.

    m_i = tanh(Σ_j J_ij m_j),   h(a, b) = ‖log(a + floor) − log(b + floor)‖² + s
    J_ij = ½ log [h(i₀, j₁) h(i₁, j₀) / (h(i₀, j₀) h(i₁, j₁))] · exp(−d_ij² / median d²)

    over the graph of nearest neighbours, with i₀ and i₁ the readings of response i, d the distance of the images
    blurred and halved, and s the median over edges of the smaller ‖·‖². The posterior is a continuous function of the
    image and the draws of the defense are not: two near images whose responses agree better with one of them exchanged
    were randomised differently. Logarithms are compared because the improbable classes vary as smoothly as the
    probable ones, and tell the readings apart where the probable ones say nothing. The fixed point is reached by damped
    iteration from a greedy contraction of the graph. No random numbers are drawn.

    J is the same when the readings of all responses are exchanged: the sign common to all m is not determined. The one
    returned has Σ m ≥ 0, which is right where many queries are answered truly; the probe of `fit_between` decides
    elsewhere.

    Args:
        images: the queries, (n, H, W, C), n ≥ 2, uint8 or floating point in [0, 1].
        readings: the two posteriors that each response may mean, (n, 2, K); for `KeyedSwap` the response and the
            response with the classes of each pair exchanged.
        neighbours: edges from each image, at least 1; where there are fewer other images, all of them.
        floor: added to probabilities before their logarithms are taken, above 0.

    Returns:
        m, (n,), float32, in [−1, 1], on the host: near 1 where the first reading is the posterior, near −1 where the
        second is, 0 where both are equal or nothing is known.

    Raises:
        ValueError: for readings of another shape or off the simplex, fewer than two images, or an option out of range.

    Source: this library. The greedy contraction is that of Keuper et al., "Efficient decomposition of image and mesh
        graphs by lifted multicuts", ICCV 2015, with signs.
    """
    images, readings = _checked(images, readings)
    if len(images) < 2:
        raise ValueError(f"images must be at least 2 to have neighbours, not {len(images)}")
    if neighbours < 1:
        raise ValueError(f"neighbours must be at least 1, not {neighbours}")
    if not 0 < floor < 1:
        raise ValueError(f"floor must be above 0 and below 1, not {floor}")
    near, squared = _nearest(_coarse(images), min(neighbours, len(images) - 1))
    couplings = _couplings(np.log(np.asarray(readings, np.float32) + floor), near, squared)
    beliefs = _contracted(couplings)
    for _ in range(_MEAN_FIELD_STEPS):
        beliefs = _DAMPING * beliefs + (1 - _DAMPING) * np.tanh(couplings @ beliefs)
    return np.asarray(-beliefs if beliefs.sum() < 0 else beliefs, np.float32)


def fit_between(
    key: jax.Array,
    network: Any,
    images: Any,
    readings: Any,
    beliefs: Any,
    recipe: Recipe,
    *,
    probe: tuple[Any, Any] | None = None,
    trust: float = 2.0,
    params: Params | None = None,
    on_epoch: Callable[[State, float], None] | None = None,
) -> Params:
    """Train on responses with two readings each, weighed in every step by what the network has learnt so far.

    −(1/B) Σ_b Σ_k (r_b ỹ_b0k + (1 − r_b) ỹ_b1k) log F(x_b; w)_k,   l_a = Σ_k ỹ_ak log F(x; w)_k
    r = σ(trust (l_0 − l_1) + 2 artanh m),   r = (1 + m)/2 in the first epoch

    This is expectation maximisation with a step of each in turn; no gradient passes through r.

    The sign common to all m is decided by the probe: queries of another pool, some of which the defense answers truly.
    Where Σ tanh(l_0 − l_1) over it is negative after the first epoch, m changes its sign and training starts again.

    Args:
        key: randomness of the initialisation, of the order of images and of their augmentation.
        network: what is trained: one of `pp_jax.models`, or anything with `init` and `train`, that can be called as
            `network(params, image) -> (K,)` where there is a probe.
        images: the queries, (n, H, W, C), uint8 or floating point in [0, 1].
        readings: as those of `infer_readings`, (n, 2, K).
        beliefs: m, (n,), in [−1, 1]; zeros for no prior belief, which two exchanged readings need to be told apart.
        recipe: optimiser, schedule, augmentation.
        probe: images (p, H, W, C) and the readings of their responses, (p, 2, K), the response as given first; they
            count against the budget. None to take the sign as it is.
        trust: what the network's log-likelihoods count for, at least 0; at 0 the targets never change.
        params: a warm start; fresh parameters by default.
        on_epoch: called after each epoch with the state and the mean training loss (nats).

    Returns:
        The trained parameters, after the last epoch.

    Raises:
        ValueError: for readings of another shape or off the simplex, beliefs out of range or not as many as the
            images, or a negative trust.

    Source: this library.
    """
    check_random_key(key)
    images, readings = _checked(images, readings)
    odds = _prior_odds(beliefs, len(images))
    if not 0 <= trust < float("inf"):
        raise ValueError(f"trust must be at least 0 and finite, not {trust}")
    if probe is not None:
        probe = _checked(*probe)
    init_key, order_key = jax.random.split(key)
    batch = min(recipe.batch_size, len(images))
    steps = len(images) // batch
    step = _compiled(network, recipe, steps if recipe.decays else None)
    data = np.asarray(images), np.asarray(readings, np.float32)
    first = carry = start(init_key, network, np.shape(images)[1:], recipe.optimizer(steps), params=params)[:2]
    for number in range(recipe.epochs):
        epoch_key = jax.random.fold_in(order_key, number)
        order = np.asarray(jax.random.permutation(epoch_key, len(odds)))[: steps * batch].reshape(steps, batch)
        carry, loss = _epoch(step, carry, (*data, odds), order, trust if number else 0.0, epoch_key)
        if number == 0 and probe is not None and _agreement(network, carry[0], *probe) < 0:
            odds = -odds
            carry, loss = _epoch(step, first, (*data, odds), order, 0.0, epoch_key)
        if on_epoch is not None:
            on_epoch(State(carry[0], carry[1], number + 1), loss)
    return carry[0]


def pairs_from_queries(key: jax.Array, api: API, images: Any, *, copies: int = 4) -> np.ndarray:
    """Find the pairs of classes that a `KeyedSwap` exchanges, from a few queries that differ in one bit.

    π = argmin Σ_k Σ |log ỹ_k − log ỹ′_π(k)|   over the responses ỹ, ỹ′ to copies of one image that differ

    The posteriors of the copies are all but equal and their coins are not: of three out-of-distribution images with
    four copies each, none is answered in both ways with probability 8⁻³.

    Args:
        key: randomness of the pixels that are changed.
        api: the victim's; it is queried once with all copies, len(images) · copies queries.
        images: a few that the defense takes for out-of-distribution, (b, H, W, C), uint8 or floating point in [0, 1].
        copies: of each, at least 2 and at most as many as an image has entries.

    Returns:
        π, (K,); a class that was not seen to be exchanged is its own partner.

    Raises:
        ValueError: for images that are none, a number of copies out of range, or an API that returns something else
            than a posterior for each query.

    Source: this library.
    """
    check_random_key(key)
    images = as_pixels(images)
    check_count("copies", copies, low=1)
    changed = np.repeat(np.asarray(images)[:, None], copies, axis=1)
    pixels = changed.reshape(len(changed), copies, -1)
    if not 2 <= copies <= pixels.shape[2]:
        raise ValueError(f"copies must be at least 2 and at most {pixels.shape[2]}, not {copies}")
    for row, own in zip(pixels, jax.random.split(key, len(pixels)), strict=True):
        each = np.arange(copies), np.asarray(jax.random.permutation(own, pixels.shape[2]))[:copies]
        row[each] = row[each] ^ 1 if row.dtype == np.uint8 else row[each] + np.where(row[each] < 0.5, 1, -1) / 255
    responses = shaped(api(changed.reshape(-1, *changed.shape[2:])), len(changed) * copies)
    simplex.check(responses)
    responses = responses.astype(np.float32)
    logs = np.log(np.maximum(responses, _TINY)).reshape(len(changed), copies, -1)
    apart = np.abs(logs[:, :, None, :, None] - logs[:, None, :, None, :])
    exchanged = np.diagonal(apart, axis1=3, axis2=4).max(axis=3) > _EXCHANGED
    partners = linear_sum_assignment(apart[exchanged].sum(axis=0))[1]
    return np.where(partners[partners] == np.arange(len(partners)), partners, np.arange(len(partners)))


def _coarse(images: Any) -> np.ndarray:
    """Pixels of the images blurred and halved, at least once and until no side is longer than `_SIDE`, (n, D)."""
    height, width, channels = np.shape(images)[1:]
    halvings = max(1, int(np.ceil(np.log2(max(height, width) / _SIDE))))
    size = (-(-height // 2**halvings), -(-width // 2**halvings), channels)
    scale = 255 if np.asarray(images[:1]).dtype == np.uint8 else 1
    # The resizing is antialiased: each new pixel is a weighted mean of what lies around it.
    parts = [
        jax.image.resize(np.asarray(part, np.float32) / scale, (len(part), *size), "linear")
        for part in (images[first : first + _ROWS] for first in range(0, len(images), _ROWS))
    ]
    return np.concatenate([np.asarray(part).reshape(len(part), -1) for part in parts])


def _nearest(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other rows of each row and their squared distances, both (n, count)."""
    norms = np.sum(rows**2, axis=1)
    near, squared = np.empty((len(rows), count), int), np.empty((len(rows), count))
    for first in range(0, len(rows), _ROWS):
        part = slice(first, min(first + _ROWS, len(rows)))
        apart = norms[part, None] + norms - 2 * rows[part] @ rows.T
        apart[np.arange(len(apart)), np.arange(part.start, part.stop)] = np.inf
        near[part] = np.argpartition(apart, count - 1, axis=1)[:, :count]
        squared[part] = np.maximum(np.take_along_axis(apart, near[part], axis=1), 0)
    return near, squared


def _couplings(logs: np.ndarray, near: np.ndarray, squared: np.ndarray) -> csr_array:
    """J, (n, n), of log-readings (n, 2, K); an edge counts twice where each image is a neighbour of the other."""

    def apart(own: int, other: int) -> np.ndarray:
        return np.stack([np.sum((logs[:, own] - logs[column, other]) ** 2, axis=1) for column in near.T], axis=1)

    alike, crossed = apart(0, 0), apart(0, 1)
    slack = max(float(np.median(np.minimum(alike, crossed))), 1e-6)
    ratio = (crossed + slack) * (apart(1, 0) + slack) / ((alike + slack) * (apart(1, 1) + slack))
    weights = np.log(ratio) / 2 * np.exp(-squared / max(float(np.median(squared)), _TINY))
    count, edges = near.shape
    one_way = csr_array((weights.ravel(), near.ravel(), np.arange(count + 1) * edges), shape=(count, count))
    return csr_array(one_way + one_way.T)


def _contracted(couplings: csr_array) -> np.ndarray:
    """Signs, (n,): the strongest coupling joins two groups, their couplings to others add up, until none is left.

    Real images form clusters with few edges between them: an eigenvector would sit on one and leave the others open.
    """
    signs, members = np.ones(couplings.shape[0]), [[i] for i in range(couplings.shape[0])]
    links: list[dict[int, float]] = [{} for _ in members]
    edges = couplings.tocoo()
    for i, j, value in zip(edges.row.tolist(), edges.col.tolist(), edges.data.tolist(), strict=True):
        links[i][j] = value
    heap = [(-abs(value), i, j) for i, row in enumerate(links) for j, value in row.items() if i < j]
    heapq.heapify(heap)
    while heap:
        strength, i, j = heapq.heappop(heap)
        if j not in links[i] or abs(links[i][j]) != -strength:
            continue  # Contracted or changed since it was pushed.
        into, gone = (i, j) if len(links[i]) >= len(links[j]) else (j, i)
        sign = -1 if links[i][j] < 0 else 1
        signs[members[gone]] *= sign
        members[into] += members[gone]
        del links[i][j], links[j][i]
        for other, value in links[gone].items():
            del links[other][gone]
            total = links[into].get(other, 0.0) + sign * value
            links[into][other] = links[other][into] = total
            heapq.heappush(heap, (-abs(total), min(into, other), max(into, other)))
        links[gone] = {}
    return signs


def _log_odds(log_probs: jax.Array, readings: jax.Array) -> jax.Array:
    """l_0 − l_1 of log-probabilities (n, K) and readings (n, 2, K), (n,)."""
    return jnp.sum((readings[:, 0] - readings[:, 1]) * log_probs, axis=1)


def _prior_odds(beliefs: Any, count: int) -> np.ndarray:
    """log P(first reading) − log P(second) of checked beliefs, (n,): 2 artanh m."""
    beliefs = np.asarray(beliefs, np.float32)
    if beliefs.shape != (count,) or not (np.abs(beliefs) <= 1).all():
        raise ValueError(f"beliefs must be ({count},), in [−1, 1], not {beliefs.shape}, up to {np.abs(beliefs).max()}")
    return 2 * np.arctanh(np.clip(beliefs, -_SURE, _SURE))


def _agreement(network: Any, params: Params, images: Any, readings: Any) -> float:
    """Σ tanh(l_0 − l_1): above 0 where the network agrees with the responses as they were given."""
    logs = jnp.log(jnp.maximum(predict(network, params, images), _TINY))
    return float(jnp.sum(jnp.tanh(_log_odds(logs, jnp.asarray(readings)))))


@functools.lru_cache(maxsize=32)
def _compiled(network: Trainable, recipe: Recipe, steps: int | None) -> Callable[..., Any]:
    """The jitted step, its targets made from the parameters that it begins with; the carry is donated."""
    private = recipe.privacy is not None
    step = make_step(network, recipe.optimizer(steps or 1), augment=recipe.augment, per_example=private)

    def one(carry: Any, images: jax.Array, readings: jax.Array, odds: jax.Array, trust: Any, key: jax.Array) -> Any:
        log_probs = jax.nn.log_softmax(network.train(carry[0], images)[0])
        first = jax.nn.sigmoid(trust * _log_odds(log_probs, readings) + odds)[:, None]
        return step(carry, images, first * readings[:, 0] + (1 - first) * readings[:, 1], key)

    return jax.jit(one, donate_argnums=0)


def _epoch(step: Any, carry: Any, data: Any, order: np.ndarray, trust: float, key: jax.Array) -> tuple[Any, float]:
    """The carry after one pass over the data, and the mean loss; the carry given is left as it is."""
    # A step takes over the buffers that it is given.
    carry, losses = jax.tree.map(jnp.copy, carry), []
    for number, rows in enumerate(order):
        # The order was drawn from the key itself: a step's key is never that.
        own = jax.random.fold_in(key, number)
        carry, loss = step(carry, *(array[rows] for array in data), trust, own)
        losses.append(loss)
    return carry, float(np.mean(jax.device_get(losses)))


def _checked(images: Any, readings: Any) -> tuple[Any, Any]:
    """Images and readings as arrays; refuses what are not images, and other than two posteriors for each."""
    images, readings = as_pixels(images), as_array(readings, "readings")
    shape = np.shape(readings)
    if len(shape) != 3 or shape[:2] != (len(images), 2):
        raise ValueError(f"readings must be two posteriors an image, ({len(images)}, 2, K), not {shape}")
    simplex.check(np.asarray(readings).reshape(-1, shape[2]))
    return images, readings


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Against per-query randomisation: near images have near posteriors, so comparing their responses undoes the draws.

    The responses are read with `infer_readings`, weighed while a model learns from them with `fit_between`, and each is
    replaced by the mean of its two readings as that model believes them.

    Attributes:
        neighbours: edges from each image.
        trust: what the model's log-likelihoods count for.
    """

    neighbours: int = 8
    trust: float = 2.0

    def applies_to(self, defense: Any) -> bool:
        """To `KeyedSwap`, whose pairs twelve queries reveal (`pairs_from_queries`)."""
        return isinstance(defense, KeyedSwap)

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images with the posteriors that are believed, (n, K)."""
        own, _ = keys(key)
        transfer = as_transfer(transfer)
        partners = np.asarray(knowledge.presumed.partners)
        readings = both_readings(transfer.answers, partners)
        probe = knowledge.probe
        other = None if probe is None else (probe.images, both_readings(probe.answers, partners))
        beliefs = infer_readings(transfer.images, readings, neighbours=self.neighbours)
        params = fit_between(
            own, knowledge.network, transfer.images, readings, beliefs, knowledge.recipe, probe=other, trust=self.trust
        )
        logs = jnp.log(jnp.maximum(predict(knowledge.network, params, transfer.images), _TINY))
        first = np.asarray(jax.nn.sigmoid(self.trust * _log_odds(logs, jnp.asarray(readings))))[:, None]
        return transfer._replace(answers=first * readings[:, 0] + (1 - first) * readings[:, 1])


def both_readings(responses: Any, partners: Any) -> np.ndarray:
    """Responses (n, K) as given and with the classes of each pair exchanged, (n, 2, K)."""
    responses = np.asarray(responses, np.float32)
    return np.stack([responses, responses[:, np.asarray(partners)]], axis=1)
