"""The networks that a defense keeps beside the victim: what it needs, and where that is trained once for all cells."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import train_victim
from cells import keeping
from owners import outliers, poisoning, teaching, unrolling
from train_victim import Victim

FOLDER = "networks"
GATE_IMAGES = 20_000
"""Training images that a gate is fitted to, at most."""
_SEED = 1000  # added to the victim's: the networks must not begin where it began


@dataclasses.dataclass(frozen=True)
class Needs:
    """Networks that a defense is made of.

    Attributes:
        kind: one that avoids the true class, several that disagree on outliers, the victim's own, fitted, or one that
            poisons, trained through thieves' training.
        epochs: passes over the victim's data.
        outliers: data set that an ensemble is to disagree on, and a poison network to poison.
        members: models of an ensemble.
    """

    kind: Literal["misinformation", "edm", "novelty", "unrolled"]
    epochs: int = 2
    outliers: str | None = None
    members: int = 1

    def __post_init__(self) -> None:
        """Refuse networks that are not trained, and an ensemble of which no two can disagree."""
        if self.kind in ("misinformation", "edm") and self.epochs < 1:
            raise ValueError(f"network_epochs is {self.epochs}: must be at least 1")
        if self.kind == "edm" and self.members < 2:
            raise ValueError(f"members is {self.members}: must be at least 2")

    def settings(self) -> dict[str, Any]:
        """What determines them, beside the victim."""
        chosen: dict[str, Any] = {"kind": self.kind, "epochs": self.epochs}
        if self.kind == "edm":
            chosen |= {
                "outliers": self.outliers,
                "members": self.members,
                "diversity_weight": teaching.DIVERSITY_WEIGHT,
            }
        if self.kind == "unrolled":
            chosen |= {"outliers": self.outliers, **unrolling.PLAN.settings()}
        return chosen


@dataclasses.dataclass(frozen=True)
class Beside:
    """What stands ready beside victim and surrogate when a defense is built.

    Attributes:
        classes: K.
        network: the architecture of what was trained.
        params: its parameters; of an ensemble with a leading axis.
        novelty: what tells strange queries from the victim's own.
    """

    classes: int = 2
    network: Any = None
    params: Any = None
    novelty: Any = None

    def partners(self) -> Any:
        """Pairs of classes."""
        import jax

        from pp_jax.defenses import keyed_swap

        return keyed_swap.random_partners(jax.random.key(_SEED), self.classes)


def check(needs: Needs | None, victim: Victim, *, pool: str | None = None) -> None:
    """Refuse, before long work starts, outliers that no defender has, and a victim that the defense does not fit.

    Raises:
        ValueError: naming what is wrong, and the option that cures it.
    """
    for dataset in (victim.outliers, None if needs is None else needs.outliers):
        outliers.check(dataset, victims=victim.dataset, pool=pool)
    if needs is not None and needs.kind == "misinformation" and victim.outliers is None:
        raise ValueError(
            "victim.outliers is None: adaptive misinformation needs a victim with outlier exposure "
            "(--victim.outliers omniglot_28)"
        )


@functools.lru_cache(maxsize=4)
def beside(needs: Needs | None, victim: Victim, runs: Path, data_dir: Path | None) -> Beside:
    """Train or load what a defense needs; of several processes one trains, and the others wait."""
    import jax

    from pp_jax import data
    from pp_jax.defenses import diverse

    test = data.load(victim.dataset, "test", data_dir=data_dir)
    if needs is None:
        return Beside(test.num_classes)
    if needs.kind == "novelty":
        return Beside(test.num_classes, novelty=_novelty(victim, runs, data_dir))
    if needs.kind == "unrolled":
        return Beside(test.num_classes, *_unrolled(needs, victim, test, runs, data_dir))
    network = train_victim.network_for(victim.model, test.num_classes, test.image_shape)
    trained: Any = diverse.Ensemble(network, needs.members) if needs.kind == "edm" else network
    like = jax.eval_shape(lambda: trained.init(jax.random.key(0), test.image_shape))
    # How the victim's outputs came about has no part in networks of their own.
    origin = dataclasses.replace(victim, outliers=None, weights=None, noise_multiplier=None).settings()
    del origin["epochs"]
    settings = {"networks": needs.settings(), "victim": origin}
    make = functools.partial(_make, needs, victim, trained, test, data_dir)
    return Beside(test.num_classes, network, keeping.kept(runs / FOLDER, settings, like, make, kind="networks"))


def _novelty(victim: Victim, runs: Path, data_dir: Path | None) -> Any:
    """The gate of a victim: a forward pass over some of its training images, so quick that it is not kept."""
    import jax
    import numpy as np

    from pp_jax import novelty

    trained = train_victim.run(train_victim.Config(victim, runs, data_dir))
    train = train_victim.training_set(victim, data_dir)
    rows = np.asarray(jax.random.permutation(jax.random.key(_SEED), len(train)))[:GATE_IMAGES]
    return novelty.fit(trained.network, trained.params, train.images[rows], train.labels[rows])


def _unrolled(needs: Needs, victim: Victim, test: Any, runs: Path, data_dir: Path | None) -> tuple[Any, Any]:
    """The poison network of a victim, and its parameters."""
    import jax

    network = unrolling.PLAN.network()
    like = jax.eval_shape(lambda: network.fresh(jax.random.key(0), test.num_classes))

    def make() -> keeping.Made:
        trained = train_victim.run(train_victim.Config(victim, runs, data_dir))
        foreign = outliers.load(needs.outliers or "", test.image_shape, data_dir)
        train = train_victim.training_set(victim, data_dir)
        return poisoning.train(victim.seed + _SEED, trained, train, foreign)

    settings = {"networks": needs.settings(), "victim": victim.settings()}
    return network, keeping.kept(runs / FOLDER, settings, like, make, kind="networks")


def _make(needs: Needs, victim: Victim, network: Any, test: Any, data_dir: Path | None) -> keeping.Made:
    """Train on the victim's data, and judge."""
    from pp_jax.defenses import diverse, misinformation

    train = train_victim.training_set(victim, data_dir)
    recipe = dataclasses.replace(victim.recipe(), epochs=needs.epochs, privacy=None)
    foreign = train.images[:1]
    loss: Any = misinformation.MisinformationLoss(recipe.augment)
    title = "training the misinforming network"
    if needs.kind == "edm":
        foreign = outliers.load(needs.outliers or "", test.image_shape, data_dir)
        loss, title = diverse.DiversityLoss(teaching.DIVERSITY_WEIGHT, recipe.augment), "training the ensemble"
    params = outliers.fit(victim.seed + _SEED, network, train, foreign, recipe, loss=loss, title=title)
    return params, _judge(network, params, test, foreign)


def _judge(network: Any, params: Any, test: Any, foreign: Any) -> dict[str, Any]:
    """Accuracy of every model, and of an ensemble how much its models agree at home and abroad."""
    import jax
    import numpy as np

    from pp_jax import metrics
    from pp_jax.defenses import diverse

    if not isinstance(network, diverse.Ensemble):
        return {"accuracy": metrics.accuracy(metrics.predict(network, params, test.images), test.labels)}
    home, abroad = (teaching.members(network, params, images) for images in (test.images, foreign))
    accuracies = [metrics.accuracy(probs, test.labels) for probs in home]
    return {
        "accuracy": float(np.mean(accuracies)),
        "accuracies": accuracies,
        "coherence_test": float(np.mean(jax.device_get(teaching.coherences(home)))),
        "coherence_outliers": float(np.mean(jax.device_get(teaching.coherences(abroad)))),
    }
