"""The defender's surrogate: what it takes the thief's model to be."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import train_victim
from cells import keeping
from train_victim import Model, Trained, Victim

FOLDER = "surrogates"
Kind = Literal["random", "partial", "trained", "distilled"]


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """A stand-in for the thief's model, kept by the defender."""

    kind: Kind = "random"
    """Untrained (the paper's choice), trained on a little of the victim's data, on all of it, or on the victim's own
    posteriors of it."""
    model: Model | None = None
    """Its architecture; the thief's by default: the defender's presumption is right."""
    epochs: int = 2
    """Passes over the data, where it is trained."""
    partial_size: int = 2000
    """Images that a partially trained one sees."""

    def settings(self) -> dict[str, Any]:
        """What determines it, as a record has it; empty for the paper's choice."""
        chosen: dict[str, Any] = {} if self.kind == "random" else {"kind": self.kind, "epochs": self.epochs}
        if self.kind == "partial":
            chosen["partial_size"] = self.partial_size
        return {**chosen, **({"model": self.model} if self.model else {})}


def build(
    surrogate: Surrogate, key: Any, *, thief: Model, victim: Trained, of: Victim, like: Any, runs: Path,
    data_dir: Path | None,
) -> tuple[Any, Any]:  # fmt: skip
    """The surrogate's network and parameters; one that is trained is kept and found again.

    Args:
        surrogate: which.
        key: randomness of its initialisation.
        thief: the architecture that it takes by default.
        victim: what a distilled one learns from.
        of: how the victim was made: its data, read only where the surrogate is trained.
        like: images of the victim's data set, of the same shape and classes.
        runs: folder of all results.
        data_dir: folder of prepared data.
    """
    import jax

    network = train_victim.network_for(surrogate.model or thief, like.num_classes, like.image_shape)
    if surrogate.kind == "random":
        return network, network.init(key, like.image_shape)
    settings = {
        "surrogate": {"model": thief, **surrogate.settings()},
        "victim": of.settings(),
        "key": jax.random.key_data(key).tolist(),
    }
    shapes = jax.eval_shape(lambda: network.init(key, like.image_shape))
    make = functools.partial(_make, surrogate, key, network, victim, of, data_dir)
    return network, keeping.kept(runs / FOLDER, settings, shapes, make, kind="surrogate")


def _make(
    surrogate: Surrogate, key: Any, network: Any, victim: Trained, of: Victim, data_dir: Path | None
) -> keeping.Made:
    """Train it."""
    from pp_jax import data, metrics, training

    train = data.load(of.dataset, "train", data_dir=data_dir)
    if surrogate.kind == "partial":
        train = train.take(min(surrogate.partial_size, len(train)))
    targets = train.labels
    if surrogate.kind == "distilled":
        targets = metrics.predict(victim.network, victim.params, train.images)
    return training.fit(key, network, train.images, targets, training.Recipe(surrogate.epochs)), {}
