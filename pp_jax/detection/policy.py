"""What is done about an account's score: bands, each with an action, as one defense with a memory."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_defense, name_of, remembers
from pp_jax.defenses.cards import Card, Carded, Defender, Fitted, presumed
from pp_jax.defenses.composition import Chain
from pp_jax.defenses.resampled import Resampled
from pp_jax.detection import makers
from pp_jax.detection.benign import Habit, uniform
from pp_jax.detection.coverage import Coverage
from pp_jax.detection.makers import Maker
from pp_jax.detection.watching import observe, threshold, watch
from pp_jax.geometry import simplex
from pp_jax.pytree import pytree
from pp_jax.types import Defense, Detector, Params, Query

FITTED_IMAGES = 20_000
"""Training images that detector and thresholds are made from, at most."""
_PUBLISHED: dict[str, Any] = {"detector": makers.p_values, "actions": (Chain(), Resampled), "rates": (0.01,)}


def _label(parameters: Mapping[str, Any]) -> str:
    """The policy in a few words: `p_values → resampled at 1 %`."""
    given = {**_PUBLISHED, **parameters}
    steps = [
        f"{_called(action)} at {100 * rate:g} %"
        for action, rate in zip(given["actions"][1:], given["rates"], strict=False)
    ]
    return " → ".join([name_of(given["detector"]), *steps])


def _called(action: Any) -> str:
    """An action's name on its card, where that does not depend on parameters; its class otherwise."""
    label = action.card.label if isinstance(action, Carded) else None
    return label if isinstance(label, str) else name_of(action)


@pytree
@dataclasses.dataclass(frozen=True)
class Blocked:
    """No answer. Where an answer there must be, it is the uniform posterior, which says nothing."""

    card = Card("blocked")
    random = False
    reads_image = False

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return 1/K for every class, (K,)."""
        del query
        probs = simplex.working(probs)
        return jnp.full_like(probs, 1 / len(probs))


@pytree
@dataclasses.dataclass(frozen=True)
class Throttled:
    """The true answer, not before so many seconds after the last one: nobody is told less, all are told later.

    Attributes:
        seconds: between two answers of an account.
    """

    seconds: float = dataclasses.field(default=1.0, metadata={"static": True})

    card = Card("throttled")
    random = False
    reads_image = False

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return y, (K,)."""
        del query
        return simplex.working(probs)


@pytree
@dataclasses.dataclass(frozen=True)
class ProofOfWork:
    """The true answer for whoever finds a number whose hash with a challenge begins with so many zero bits.

    About 2^bits hashes a query: a second of one core has some 10⁶ of them.

    Attributes:
        bits: of the puzzle.

    Source: Dziedzic, Kaleem, Lu, Papernot, "Increasing the cost of model extraction with calibrated proof of work",
        ICLR 2022.
    """

    bits: int = dataclasses.field(default=16, metadata={"static": True})

    card = Card("proof of work")
    random = False
    reads_image = False

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return y, (K,)."""
        del query
        return simplex.working(probs)


class PolicyState(NamedTuple):
    """What is remembered of an account.

    Attributes:
        detector: the detector's memory.
        score: of the last query.
        band: the band that the account is in, int32.
        answered: queries answered in each band, (B + 1,) int32.
    """

    detector: Any
    score: jax.Array
    band: jax.Array
    answered: jax.Array


@pytree
@dataclasses.dataclass(frozen=True)
class Policy:
    """A detector in front of defenses: the score's band decides which of them answers.

    s_i = detector(x_1 … x_i),   band_i = #{b : s_i > t_b} (never below band_{i−1} if it is sticky),
    ỹ_i = action_band(y_i)

    It is a defense with a memory, so `evaluate`, `BlackBox.session` and the service take it as they take any.

    Attributes:
        detector: one of `pp_jax.detection`, or anything under `types.Detector`.
        thresholds: t_1 ≤ … ≤ t_B, (B,); a leaf.
        actions: B + 1 defenses without memory, the mildest first: `chain()` to pass, any defense, `Blocked()`,
            `Throttled(…)`, `ProofOfWork(…)`.
        features_fn: `features_fn(params, image) -> (F,)`, the victim's or an encoder's, `network.features`; static.
        params: its parameters.
        sticky: whether an account stays in its highest band; static.
        audit_only: answer truly whatever the band, and only keep count; static.
        account_queries: how many queries the accounts had that the thresholds were set on; None where that is not
            known; static.

    Raises:
        ValueError: for thresholds that fall or are not one fewer than the actions; an action that is no defense or has
            a memory.
    """

    detector: Detector[Any]
    thresholds: Any
    actions: tuple[Defense, ...]
    features_fn: Any = dataclasses.field(metadata={"static": True})
    params: Params
    sticky: bool = dataclasses.field(default=True, metadata={"static": True})
    audit_only: bool = dataclasses.field(default=False, metadata={"static": True})
    account_queries: int | None = dataclasses.field(default=None, metadata={"static": True})

    card = Card(_label)
    reads_image = True

    def __post_init__(self) -> None:
        """Check thresholds and actions."""
        for action in self.actions:
            check_defense(action)
            if remembers(action):
                raise ValueError(f"{name_of(action)} has a memory: the actions of a policy must have none")
        try:
            limits = np.asarray(self.thresholds, np.float64)
        except jax.errors.TracerArrayConversionError:
            return
        if limits.ndim != 1 or len(limits) != len(self.actions) - 1:
            raise ValueError(f"thresholds must be one fewer than the {len(self.actions)} actions, not {limits.shape}")
        if np.isnan(limits).any() or (np.diff(limits) < 0).any():
            raise ValueError(f"thresholds must not fall from action to action, but they are {limits.tolist()}")

    @property
    def random(self) -> bool:
        """Whether any action draws random numbers."""
        return any(action.random for action in self.actions)

    @classmethod
    def fitted(
        cls,
        defender: Defender,
        *,
        detector: Maker = _PUBLISHED["detector"],
        actions: tuple[Any, ...] = _PUBLISHED["actions"],
        rates: tuple[float, ...] = _PUBLISHED["rates"],
        queries: int = 1000,
        accounts: int = 1000,
        habits: tuple[Habit, ...] = (uniform,),
        thresholds: tuple[float, ...] | None = None,
        **options: Any,
    ) -> "Policy":
        """Fit a detector to one half of the victim's training images, and set its thresholds on accounts of the other.

        Args:
            defender: the victim and its data.
            detector: makes the detector.
            actions: B + 1 defenses, or classes of some that are then fitted to the victim.
            rates: false-alarm rate of each threshold, per benign account of so many queries, (B,), falling.
            queries: of an account.
            accounts: benign ones that thresholds are set on, in equal parts of each habit.
            habits: what benign accounts do.
            thresholds: set before with the same arguments, so that no accounts need be tried; None sets them.
            options: `sticky`, `audit_only`.

        Raises:
            ValueError: as the class, for too few accounts for a rate, and for too few queries for a score.
        """
        made = tuple(a.fitted(defender) if isinstance(a, type) and isinstance(a, Fitted) else a for a in actions)
        features = defender.network.features
        if defender.rehearsal:
            none = Coverage(jnp.zeros((1, 1)), jnp.zeros(1), bits=1)
            return cls(none, jnp.zeros(len(rates)), made, _nothing, None, account_queries=queries, **options)
        images, labels = defender.training_set()
        order = np.asarray(jax.random.permutation(jax.random.key(defender.seed), len(images)))[:FITTED_IMAGES]
        half, rest = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
        own = observe(defender.network, defender.params, images[half])
        key, *keys = jax.random.split(jax.random.key(defender.seed), 1 + len(habits))
        watcher = detector(key, defender.network, defender.params, own, np.asarray(labels)[half])
        if thresholds is None:
            others = observe(defender.network, defender.params, images[rest])
            share = -(-accounts // len(habits))
            known = np.asarray(labels)[rest]
            streams = np.concatenate([h(k, known, share, queries) for h, k in zip(habits, keys, strict=True)])
            scores = watch(watcher, others, streams)
            thresholds = tuple(threshold(scores, rate) for rate in rates)
        limits = jnp.asarray(thresholds, jnp.float32)
        if np.isneginf(limits).any():
            # Else whoever has any score at all would be over the threshold.
            raise ValueError(f"queries is {queries}: must be more, as benign accounts have no score before that")
        return cls(watcher, limits, made, features, defender.params, account_queries=queries, **options)

    def init(self) -> PolicyState:
        """Return the memory before the first query."""
        nothing = jnp.zeros((), jnp.int32)
        counts = jnp.zeros(len(self.actions), jnp.int32)
        return PolicyState(self.detector.init(), jnp.asarray(-jnp.inf, jnp.float32), nothing, counts)

    def __call__(self, probs: jax.Array, query: Query, state: PolicyState) -> tuple[jax.Array, PolicyState]:
        """Return the response of the band's action, (K,), and the memory after it."""
        features = self.features_fn(self.params, query.image)
        state = self.watched(state, query.image, probs, features)
        if self.audit_only:
            return simplex.working(probs), state
        responses = jnp.stack([self.respond(band, probs, query) for band in range(len(self.actions))])
        return responses[state.band], state

    def watched(self, state: PolicyState, image: jax.Array, probs: jax.Array, features: jax.Array) -> PolicyState:
        """The memory after a query: score and band, without a response."""
        memory, score = self.detector.update(state.detector, image, probs, features)
        band = jnp.sum(score > jnp.asarray(self.thresholds, jnp.float32)).astype(jnp.int32)
        if self.sticky:
            band = jnp.maximum(band, state.band)
        return PolicyState(memory, score.astype(jnp.float32), band, state.answered.at[band].add(1))

    def respond(self, band: int, probs: jax.Array, query: Query) -> jax.Array:
        """The response of one band's action, (K,), float32 or float64 as the posterior."""
        action = self.actions[band]
        own = jax.random.fold_in(query.key, band) if action.random else None
        return action(simplex.working(probs), query._replace(key=own))

    @property
    def acting(self) -> Defense:
        """The strongest action that changes an answer and still gives one: all that there is to recover from."""
        changing = [each for each in self.actions if not isinstance(each, Blocked | Throttled | ProofOfWork)]
        return changing[-1] if changing else Chain()

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> Any:
        """What an attacker takes it for: `acting`, for all queries; None where that cannot be built."""
        return presumed(self.acting, key, network, image_shape)


def _nothing(params: Params, image: jax.Array) -> jax.Array:
    """The features of a rehearsal."""
    del params, image
    return jnp.zeros(1)
