"""Another network in the victim's place: what training-time defenses come to, free at inference."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from pp_jax._checks import check_classes, check_count
from pp_jax.defenses.cards import Card, Defender, NetworkSettings
from pp_jax.geometry import simplex
from pp_jax.geometry.posteriors import posterior
from pp_jax.pytree import pytree
from pp_jax.results.identity import describe
from pp_jax.training import fit
from pp_jax.types import LogitsFn, Params, Query


@pytree
@dataclasses.dataclass(frozen=True)
class Retrained:
    """Answer with a network that was trained to be hard to steal; made by `NastyTeacher` or `Distillation`.

    ỹ = softmax(F(x))

    The victim's posterior is not looked at, whatever it is (one-hot, uniform, tied, denormal, K = 2). Here the victim
    runs as well, so that one entry fits all tables; deployed, F is the victim, and costs nothing.

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; never NaN for finite logits; deterministic. No distance, no argmax.

    Attributes:
        logits_fn: F, `logits_fn(params, image) -> (K,)`; static.
        params: its parameters.

    Raises:
        ValueError: at the first call for a network with another number of classes.
    """

    logits_fn: LogitsFn = dataclasses.field(metadata={"static": True})
    params: Params

    card = Card("retrained", trained=True)
    random = False
    reads_image = True

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> None:
        """Nothing: the network is the defender's."""
        del key, network, image_shape

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        answer = posterior(self.logits_fn, self.params, query.image)
        check_classes(answer.shape[-1], probs.shape[-1])
        return answer.astype(simplex.working(probs).dtype)


def retrained(
    defender: Defender, kind: str, loss: Any, targets: Any, epochs: int, *, unlabelled: Any = None
) -> Retrained:
    """Train the victim's architecture anew with a loss and targets of its own, once, and keep it.

    Args:
        defender: the victim and its data.
        kind: of the defense.
        loss: of `pp_jax.training`.
        targets: makes what the loss takes for each training image; called only where the network is trained.
        epochs: passes over the data, at least 1.
        unlabelled: images that the loss takes besides.
    """
    check_count("epochs", epochs, low=1)
    network, images = defender.network, defender.training_set()[0]
    recipe = dataclasses.replace(defender.recipe, epochs=epochs, augment=None, privacy=None)

    def make() -> tuple[Params, dict[str, Any]]:
        key = jax.random.key(defender.seed)
        return fit(key, network, np.asarray(images), targets(), recipe, loss=loss, unlabelled=unlabelled), {}

    settings = {
        "loss": describe(loss), "epochs": epochs, "seed": defender.seed, "network": describe(network),
        "unlabelled": None if unlabelled is None else describe(np.asarray(unlabelled)),
    }  # fmt: skip
    like = jax.eval_shape(lambda: network.init(jax.random.key(0), defender.image_shape))
    return Retrained(network, defender.keep(NetworkSettings(kind, settings), like, make))
