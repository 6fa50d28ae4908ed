"""The networks that a defense keeps beside the victim: trained once, for all cells alike.

    python experiments/train_defense.py misinformation --victim.outliers omniglot_28
    python experiments/train_defense.py edm

Adaptive misinformation has a network that was taught to be wrong, EDM an ensemble that agrees on the victim's data
alone. The other scripts train what they need; this one does it beforehand, and says what came of it. Writes parameters
and a record to `runs/networks`. Two epochs for LeNet on MNIST take half a minute (misinformation) and, by its time per
step, over 10 minutes (EDM) on 2 busy CPU cores.
"""

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any, Literal

import tyro

import train_victim
from cells import keeping
from owners import outliers, unrolling
from train_victim import Victim

FOLDER = "networks"
GATE_IMAGES = 20_000
"""Training images that a gate is fitted to, at most."""
DIVERSITY_WEIGHT = 1.0
"""Of the diversity loss beside the cross-entropies of EDM's models."""
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

    def settings(self) -> dict[str, Any]:
        """What determines them, beside the victim."""
        chosen: dict[str, Any] = {"kind": self.kind, "epochs": self.epochs}
        if self.kind == "edm":
            chosen |= {"outliers": self.outliers, "members": self.members, "diversity_weight": DIVERSITY_WEIGHT}
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


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """N networks of one architecture that train together.

    Attributes:
        network: the architecture.
        members: N.
    """

    network: Any
    members: int

    def init(self, key: Any, image_shape: tuple[int, int, int]) -> Any:
        """Parameters, every leaf with a leading axis N."""
        import jax

        return jax.vmap(lambda own: self.network.init(own, image_shape))(jax.random.split(key, self.members))

    def train(self, params: Any, images: Any) -> tuple[Any, Any]:
        """Logits (N, B, K), and parameters with their batch statistics updated."""
        import jax

        many = getattr(self.network, "stacked", self.network)
        return jax.vmap(many.train, (0, None))(params, images)


@dataclasses.dataclass(frozen=True)
class Misled:
    """Teaches a network to avoid the label, for `recovery.fit_semi`; other images play no part."""

    augment: Any = None

    def __call__(self, network: Any, params: Any, images: Any, targets: Any, others: Any, key: Any) -> Any:
        """The loss, and the parameters with their batch statistics."""
        import jax
        import jax.numpy as jnp

        from pp_jax.defenses import misinformation

        del others
        logits, updated = network.train(params, outliers.augmented(self.augment, key, images))
        return jnp.mean(jax.vmap(misinformation.loss)(logits, jnp.argmax(targets, axis=-1))), updated


@dataclasses.dataclass(frozen=True)
class Diverse:
    """Teaches an `Ensemble` the labels, and to disagree on outliers, for `recovery.fit_semi`.

    L = Σ_i CE(t, softmax(z_i)) + weight · mean over outliers of log Σ_{i<j} exp cos(f_i, f_j)

    Attributes:
        weight: of the second term.
        augment: (key, image) to image, for the victim's own data; hashable.
    """

    weight: float = DIVERSITY_WEIGHT
    augment: Any = None

    def __call__(self, network: Ensemble, params: Any, images: Any, targets: Any, others: Any, key: Any) -> Any:
        """The loss, and the parameters with the batch statistics of the victim's own data."""
        import jax
        import jax.numpy as jnp

        from pp_jax.defenses import diverse
        from pp_jax.training import soft_cross_entropy

        logits, updated = network.train(params, outliers.augmented(self.augment, key, images))
        foreign = jax.nn.softmax(network.train(params, others)[0])
        apart = jnp.mean(jax.vmap(diverse.diversity_loss, 1)(foreign))
        # A sum: each model moves by the gradient of its own cross-entropy.
        return jnp.sum(jax.vmap(soft_cross_entropy, (0, None))(logits, targets)) + self.weight * apart, updated


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

    test = data.load(victim.dataset, "test", data_dir=data_dir)
    if needs is None:
        return Beside(test.num_classes)
    if needs.kind == "novelty":
        return Beside(test.num_classes, novelty=_novelty(victim, runs, data_dir))
    if needs.kind == "unrolled":
        return Beside(test.num_classes, *_unrolled(needs, victim, test, runs, data_dir))
    network = train_victim.network_for(victim.model, test.num_classes, test.image_shape)
    trained = Ensemble(network, needs.members) if needs.kind == "edm" else network
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
        return unrolling.train(victim.seed + _SEED, trained, train, foreign)

    settings = {"networks": needs.settings(), "victim": victim.settings()}
    return network, keeping.kept(runs / FOLDER, settings, like, make, kind="networks")


def _make(needs: Needs, victim: Victim, network: Any, test: Any, data_dir: Path | None) -> keeping.Made:
    """Train on the victim's data, and judge."""
    train = train_victim.training_set(victim, data_dir)
    recipe = dataclasses.replace(victim.recipe(), epochs=needs.epochs, privacy=None)
    foreign = train.images[:1]
    loss: Any = Misled(recipe.augment)
    title = "training the misinforming network"
    if needs.kind == "edm":
        foreign = outliers.load(needs.outliers or "", test.image_shape, data_dir)
        loss, title = Diverse(DIVERSITY_WEIGHT, recipe.augment), "training the ensemble"
    params = outliers.fit(victim.seed + _SEED, network, train, foreign, recipe, loss=loss, title=title)
    return params, _judge(network, params, test, foreign)


def _judge(network: Any, params: Any, test: Any, foreign: Any) -> dict[str, Any]:
    """Accuracy of every model, and of an ensemble how much its models agree at home and abroad."""
    import jax
    import numpy as np

    from pp_jax import metrics

    if not isinstance(network, Ensemble):
        return {"accuracy": metrics.accuracy(metrics.predict(network, params, test.images), test.labels)}
    home, abroad = (members(network, params, images) for images in (test.images, foreign))
    accuracies = [metrics.accuracy(probs, test.labels) for probs in home]
    return {
        "accuracy": float(np.mean(accuracies)),
        "accuracies": accuracies,
        "coherence_test": float(np.mean(jax.device_get(coherences(home)))),
        "coherence_outliers": float(np.mean(jax.device_get(coherences(abroad)))),
    }


def members(ensemble: Ensemble, params: Any, images: Any) -> list[Any]:
    """Posteriors of each model, N of (B, K)."""
    import jax

    from pp_jax import metrics

    each = (jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(ensemble.members))
    return [metrics.predict(ensemble.network, one, images) for one in each]


def coherences(posteriors: list[Any]) -> Any:
    """The largest cosine between two models' posteriors, N of (B, K), on each image, (B,)."""
    import jax
    import jax.numpy as jnp

    from pp_jax.defenses import diverse

    return jax.vmap(diverse.coherence, 1)(jnp.stack(posteriors))


@dataclasses.dataclass(frozen=True)
class Config:
    """Train what a defense needs, and keep it."""

    kind: tyro.conf.Positional[Literal["misinformation", "edm"]]
    """For which defense."""
    victim: Victim = dataclasses.field(default_factory=Victim)
    epochs: int = 2
    """Passes over the victim's training images."""
    outliers: str = "omniglot_28"
    """EDM: what its models are to disagree on."""
    members: int = 5
    """EDM: how many models."""
    runs: Path = Path("runs")
    """Folder of all results."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""

    def needs(self) -> Needs:
        """As a defense has them."""
        return Needs(self.kind, self.epochs, *((self.outliers, self.members) if self.kind == "edm" else ()))


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    try:
        needs = config.needs()
        outliers.check(needs.outliers, victims=config.victim.dataset)
        beside(needs, config.victim, config.runs, config.data_dir)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(config.runs / FOLDER)


if __name__ == "__main__":
    main()
