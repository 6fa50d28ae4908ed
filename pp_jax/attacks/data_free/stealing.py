"""The driver of data-free stealing: it owns the budget, and keeps what was learned from queries, not the queries."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from pp_jax._checks import check_random_key
from pp_jax.attacks.data_free.method import DataFree, DataFreeState
from pp_jax.attacks.spending import QueriesFailed, QueriesStopped
from pp_jax.serving.answers import PartlyAnswered, checked
from pp_jax.serving.blackbox import API
from pp_jax.types import Params, TransferSet


@dataclasses.dataclass(frozen=True)
class Theft:
    """What an attack has so far; `steal` goes on from it.

    Attributes:
        method: the attack.
        state: generator and clones.
        answered: queries of the round under way that were answered, and that nobody has learned from yet.
        queries: images that were answered in all.
        spent: queries that were made, those included that a failing API may have seen.
    """

    method: DataFree
    state: DataFreeState
    answered: TransferSet | None = None
    queries: int = 0
    spent: int = 0

    @property
    def clones(self) -> tuple[Params, ...]:
        """The parameters of the stolen model, or of each of several that vote."""
        return self.method.params(self.state)

    def predict(self, images: Any) -> np.ndarray:
        """The stolen model's posteriors, (N, K): the mean over the clones."""
        return self.method.predict(self.state, images)


class TheftFailed(QueriesFailed):
    """Queries came to an end before the budget was spent; what was learned from them is `theft`."""

    def __init__(self, message: str, theft: Theft):
        super().__init__(message, _unlearned(theft), theft.spent)
        self.theft = theft


class TheftStopped(QueriesStopped):
    """The keyboard stopped the queries; `theft` as that of `TheftFailed`."""

    def __init__(self, message: str, theft: Theft):
        super().__init__(message, _unlearned(theft), theft.spent)
        self.theft = theft


def steal(
    key: jax.Array,
    method: DataFree,
    api: API,
    *,
    image_shape: tuple[int, ...],
    so_far: Theft | None = None,
    on_round: Callable[[Theft], None] | None = None,
) -> Theft:
    """Spend the whole budget of a data-free attack: a round of queries, a round of learning, and so on.

    Formal guarantees: exactly `method.budget` images are answered, and none is paid for twice: what a failed call had
    goes on with the image after the last one that was answered, and ends as a call that nothing happened to, bit for
    bit on the same machine, if the API answers alike. Memory does not grow with the budget beyond `method.memory`.

    The first image is asked about alone: an API whose responses the method cannot learn from costs one query.

    Args:
        key: randomness of the attack.
        method: `dfme(…)`, `maze(…)`, …, or another `DataFree`.
        api: images in, answers out, as for `collect`.
        image_shape: (H, W, C), sides divisible by 4.
        so_far: the theft of a call that failed or was stopped (`TheftFailed.theft`), or that `on_round` was given.
        on_round: called after each round.

    Returns:
        The theft, with the clones.

    Raises:
        ValueError: for a seed in place of a key, a shape that the networks do not take, or the theft of another method;
            nothing is asked then.
        TheftFailed: a ValueError with `theft` and `spent`: if the API raises an exception or returns what is no
            response, or labels to a method that compares probabilities; if `on_round` fails.
        TheftStopped: a KeyboardInterrupt with the same.
    """
    check_random_key(key)
    if so_far is not None and (so_far.method != method or so_far.state.image_shape != tuple(image_shape)):
        raise ValueError("so_far is the theft of another method or shape of images: must be of this one")
    theft = so_far or Theft(method, method.begin(key, tuple(image_shape)))
    with _Spending(theft) as spending:
        while spending.theft.queries < method.budget:
            spending.play(api)
            if on_round is not None:
                on_round(spending.theft)
    return spending.theft


class _Spending(contextlib.AbstractContextManager["_Spending"]):
    """A theft that goes on, and that is handed to whoever catches what goes wrong."""

    def __init__(self, theft: Theft) -> None:
        self.theft = theft

    def play(self, api: API) -> None:
        """A round: what is not answered yet is asked, then all of it is learned."""
        method, state = self.theft.method, self.theft.state
        known = 0 if self.theft.answered is None else self.theft.answered.queries
        images = method.ask(state)[: method.budget - self.theft.queries + known]
        if self.theft.queries == 0:
            self._ask(api, images[:1])
            method.targets(state, self._answered.answers)
        if len(rest := images[self._answered_count :]):
            self._ask(api, rest)
        self.theft = dataclasses.replace(self.theft, state=method.tell(state, *self._answered), answered=None)

    @property
    def _answered(self) -> TransferSet:
        assert self.theft.answered is not None
        return self.theft.answered

    @property
    def _answered_count(self) -> int:
        return 0 if self.theft.answered is None else self.theft.answered.queries

    def _ask(self, api: API, images: np.ndarray) -> None:
        """Ask, and keep what is answered, also of a batch that fails half-way."""
        like = None if self.theft.answered is None else self.theft.answered.answers
        self.theft = dataclasses.replace(self.theft, spent=self.theft.spent + len(images))
        try:
            self._keep(images, checked(api(images), len(images), like))
        except PartlyAnswered as error:
            some = checked(error.answers, min(len(images), len(error.answers)), like)
            self._keep(images[: len(some)], some)
            raise

    def _keep(self, images: np.ndarray, answers: np.ndarray) -> None:
        if len(answers) == 0:
            return
        new = TransferSet(images, answers)
        if self.theft.answered is not None:
            new = TransferSet(*(np.concatenate(each) for each in zip(self.theft.answered, new, strict=True)))
        self.theft = dataclasses.replace(self.theft, answered=new, queries=self.theft.queries + len(answers))

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Hand the theft over.

        Raises:
            TheftFailed: for any exception.
            TheftStopped: for one from the keyboard.
        """
        if isinstance(error, KeyboardInterrupt):
            raise TheftStopped(self._told("stopped"), self.theft) from error
        if isinstance(error, Exception):
            named = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise TheftFailed(self._told(" ".join(f"{named}{error}".split())), self.theft) from error

    def _told(self, reason: str) -> str:
        """What happened, what there is, and how to go on."""
        budget = self.theft.method.budget
        if self.theft.queries == 0:
            return f"{reason} (none of {budget} queries was answered)"
        return (
            f"{reason} ({self.theft.queries} of {budget} queries were answered: what was learned is this error's "
            "theft, and the same call with so_far=error.theft goes on from there)"
        )


def _unlearned(theft: Theft) -> TransferSet:
    """The answers of the round under way."""
    if theft.answered is not None:
        return theft.answered
    return TransferSet(np.empty((0, *theft.state.image_shape), np.float32), np.empty((0, 0)))
