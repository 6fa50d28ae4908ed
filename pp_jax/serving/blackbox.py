"""The prediction API: a victim behind its defense, and the budget of queries that an attacker may spend on it."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
from jax.sharding import Mesh

from pp_jax import _batching, parallel
from pp_jax._checks import (
    as_images,
    check_count,
    check_defense,
    check_forgetful,
    check_key,
    check_random_key,
    is_key,
    name_of,
    remembers,
)
from pp_jax.defenses.composition import UNDEFENDED
from pp_jax.geometry.posteriors import posterior
from pp_jax.pytree import pytree
from pp_jax.serving import perturbation
from pp_jax.types import Audit, Defense, LogitsFn, Params, StatefulDefense

API = Callable[[Any], Any]
"""What an attacker sees of a victim: images (B, H, W, C) in, responses (B, K) out. Local or remote."""


class BudgetExhausted(ValueError):
    """A query beyond the budget."""


@pytree
@dataclasses.dataclass(frozen=True)
class BlackBox:
    """A victim and its defense as one pure function: images in, (responses, audit) out; the audit is the defender's.

    Attributes:
        logits_fn: the victim, `logits_fn(params, image) -> (K,)`; static.
        params: its parameters.
        defense: any defense; `chain()` is none. One with memory answers through `session`.
        key: the defender's secret key, needed by defenses that draw random numbers.
        batch_size: how many queries a device works on at once, to bound memory; static.
        mesh: the devices that share the queries (`parallel.data_mesh`); `parallel.place` lays victim and defense out on
            them once; static.

    Raises:
        ValueError: for what is no defense (`types.Defense`), or a mesh without the axis "data".
    """

    logits_fn: LogitsFn = dataclasses.field(metadata={"static": True})
    params: Params
    defense: Defense | StatefulDefense[Any] = UNDEFENDED
    key: jax.Array | None = None
    batch_size: int | None = dataclasses.field(default=None, metadata={"static": True})
    mesh: Mesh | None = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the defense and the mesh."""
        check_defense(self.defense)
        parallel.check_mesh(self.mesh)
        if self.key is not None and not is_key(self.key):
            check_random_key(self.key)
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size, low=1)

    def __call__(self, images: jax.Array) -> tuple[jax.Array, Audit]:
        """Answer a batch of queries.

        Args:
            images: (B, H, W, C), uint8 or floating point in [0, 1].

        Returns:
            The responses ỹ, (B, K), and the `Audit` with the clean posteriors.

        Raises:
            ValueError: for images of a wrong rank, dtype or range, a random defense without a key, a surrogate with
                another number of classes than the victim, a defense with memory, or responses of another shape or off
                the simplex.
        """
        check_forgetful(self.defense)
        images = as_images(images)
        check_key(self.defense, self.key)
        if self.mesh is not None:
            (images,) = parallel.spread(self.mesh, images)
        answers, audit, broken = answered(self, images)
        with contextlib.suppress(jax.errors.ConcretizationTypeError):
            broken.report(len(images), self.defense)
        return answers, audit

    def session(self) -> "Ask":
        """The defender's view of one user's queries: images in, responses and audit out.

        A defense with memory begins with none and keeps it from batch to batch; any other answers as the box does.
        """
        return Session(self) if remembers(self.defense) else self

    def api(self) -> API:
        """The attacker's view, a session of its own: images in, answers out."""
        ask = self.session()
        return lambda images: ask(images)[0]


Ask = Callable[[jax.Array], tuple[jax.Array, Audit]]
"""Images (B, H, W, C) in, responses (B, K) and audit out."""


class Session:
    """One user's queries to a victim whose defense has a memory, answered in their order.

    ỹ_i, s_i = defense(y_i, Query(x_i, key_i), s_{i−1}), s_0 = defense.init(); how the queries are cut into batches
    changes nothing. The memory is replaced when a batch has been answered, and not if it was refused.

    Args:
        box: the victim and its defense.

    Raises:
        ValueError: for a defense without memory.
    """

    def __init__(self, box: BlackBox) -> None:
        if not remembers(box.defense):
            raise ValueError(f"{name_of(box.defense)} has no memory: ask the black box itself")
        self._box = box
        self.state = cast(StatefulDefense[Any], box.defense).init()

    def __call__(self, images: jax.Array) -> tuple[jax.Array, Audit]:
        """Answer a batch of queries: the responses ỹ, (B, K), and the `Audit`; refuses what the black box does."""
        _, audit = dataclasses.replace(self._box, defense=UNDEFENDED)(images)
        defense = cast(StatefulDefense[Any], self._box.defense)
        answers, self.state = perturbation.perturb_sequence(
            defense, self.state, audit.probs, images, key=self._box.key, check=False
        )
        return answers, audit


@jax.jit
def answered(box: BlackBox, images: jax.Array) -> tuple[jax.Array, Audit, perturbation.Broken]:
    """Answers, audit, and what was wrong with images, victim and responses."""

    def rows(shared: tuple[Params, Defense, jax.Array | None], images: jax.Array) -> tuple[jax.Array, jax.Array]:
        params, defense, key = shared

        def one(image: jax.Array) -> tuple[jax.Array, jax.Array]:
            probs = posterior(box.logits_fn, params, image)
            return perturbation.respond(defense, probs, perturbation.make_query(defense, key, image)), probs

        return _batching.each(one, box.batch_size, images)

    answers, probs = parallel.over_rows(rows, box.mesh, (box.params, box.defense, box.key), images)
    broken = perturbation.look(box.defense, probs, images, answers)
    return answers, Audit(probs), parallel.everywhere(box.mesh, broken)


class Metered:
    """An API with a budget: one image is one query, always counted, and the budget is never overspent.

    Args:
        api: images (B, H, W, C) in, responses (B, K) out.
        budget: how many images may be asked about, at least 1.

    Raises:
        ValueError: for a budget below 1.
    """

    def __init__(self, api: API, budget: int) -> None:
        check_count("the query budget", budget, low=1)
        self._api = api
        self.budget = int(budget)
        self.spent = 0

    @property
    def left(self) -> int:
        """Queries that remain."""
        return self.budget - self.spent

    def __call__(self, images: Any) -> Any:
        """Answer, and count every image.

        Raises:
            BudgetExhausted: if more images are asked about than remain; then nothing is asked or counted.
        """
        if len(images) > self.left:
            raise BudgetExhausted(
                f"{len(images)} queries asked, but {self.left} of the budget of {self.budget} remain: none was answered"
            )
        # Counted before it is asked: a remote API that fails half-way has seen the images.
        self.spent += len(images)
        return self._api(images)
