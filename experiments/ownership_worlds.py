"""The world of `ownership`: victims, marks, models that never saw a mark, and what becomes of a stolen one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

SOURCE, TARGET = 1, 7
"""The entangled watermark's classes: triggers are images of the first, answered as the second."""
HONEY = 0
"""The honeytrace's target class."""
KINDS = ("same data", "other data", "copies of another victim")
OWN_IMAGES, ENTANGLED_IMAGES = 1000, 10_000


@dataclasses.dataclass(frozen=True)
class Fate:
    """What a marked victim's responses and a stolen model go through.

    Attributes:
        name: in tables.
        then: the defense after the mark, as on a command line; None for no other.
        recovery: name of the attacker in `pp_jax.evaluation.attackers`.
        tuned: whether the stolen model is trained on with images of the attacker's own.
    """

    name: str
    then: str | None = None
    recovery: str = "plain"
    tuned: bool = False


FATES = (
    Fate("stolen plainly"),
    Fate("Top1 (hard labels)", "Top1"),
    Fate("Rounding, 1 decimal", "Rounding(decimals=1)"),
    Fate("ReverseSigmoid, β = 1", "ReverseSigmoid(beta=1.0, gamma=0.2)"),
    Fate("MAD, ε = 0.99", "MAD(epsilon=0.99)"),
    Fate("MAD, inverted", "MAD(epsilon=0.99)", "inversion"),
    Fate("ModelGuardW, ε = 1", "ModelGuardW(epsilon=1.0)"),
    Fate("KeyedSwap", "KeyedSwap"),
    Fate("KeyedSwap, neighbours", "KeyedSwap", "neighbours"),
    Fate("smoothing, 3 copies", None, "smoothing"),
    Fate("fine-tuned", tuned=True),
)


class Stolen(NamedTuple):
    """A stolen model, and all that its client asked and was told.

    Attributes:
        model: network and parameters.
        defense: all that stood before the victim.
        key: the defender's.
        images: the client's queries.
        probs: the victim's clean posteriors of these.
        answers: the responses.
    """

    model: Any
    defense: Any
    key: Any
    images: Any
    probs: Any
    answers: Any


class Recorder:
    """An API, and what was asked of it."""

    def __init__(self, api: Callable[[Any], Any]) -> None:
        self._api = api
        self.images: list[Any] = []
        self.answers: list[Any] = []

    def __call__(self, images: Any) -> Any:
        """Answer, and keep both."""
        import numpy as np

        answers = np.asarray(self._api(images))
        self.images.append(np.asarray(images))
        self.answers.append(answers)
        return answers


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """What all runs of a seed share.

    Attributes:
        config: of the script.
        seed: of attacks, keys and independent models.
    """

    config: Any
    seed: int

    @functools.cached_property
    def halves(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """Images and labels of the data set's first half, which victims are trained on, and of the other."""
        everything, first = self.config.everything(), self.config.victim.train_size
        images, labels = everything.images, everything.labels
        return (images[:first], labels[:first]), (images[first:], labels[first:])

    @functools.cached_property
    def plain(self) -> Any:
        """The victim without a mark."""
        return self.config.trained()

    @functools.cached_property
    def entangled(self) -> Any:
        """The victim that was trained with an entangled watermark."""
        import numpy as np

        from pp_jax import training
        from pp_jax.ownership import patched

        plain = self.plain
        source = patched(plain.images[np.asarray(plain.labels) == SOURCE])
        loss = training.Entangled(TARGET, self.config.entanglement)
        settings = {"loss": dataclasses.asdict(loss), "source": SOURCE}
        images, labels = (np.asarray(part)[:ENTANGLED_IMAGES] for part in (plain.images, plain.labels))
        # Published: first as usual, then with triggers.
        recipe = training.Recipe(1, learning_rate=0.02)

        def make(key: Any) -> Any:
            start = {"params": plain.params, "loss": loss, "unlabelled": source}
            return training.fit(key, plain.network, images, labels, recipe, **start)

        params = self._kept("entangled", settings, make)
        return dataclasses.replace(plain, params=params, settings={**plain.settings, "entangled": settings})

    def independents(self, kind: str) -> list[Any]:
        """Models of one kind that never saw a mark."""
        return [self._independent(kind, number) for number in range(self.config.independents)]

    @functools.cache  # noqa: B019
    def _independent(self, kind: str, number: int) -> Any:
        import jax
        import numpy as np

        from pp_jax import training
        from pp_jax.ownership import Model

        network, size = self.plain.network, self.config.independent_size
        which = KINDS.index(kind)
        settings = {"kind": kind, "number": number, "size": size, "seed": self.seed}

        def make(key: Any) -> Any:
            draw, key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, which), number))
            if kind == KINDS[2]:
                other = self._independent(KINDS[1], number)
                pool, recipe = self.config.pool().images, self.config.attack.recipe()
                asked = pool[np.asarray(jax.random.permutation(draw, len(pool)))[: self.config.attack.budget]]
                return training.fit(key, network, asked, other(asked), recipe)
            images, labels = self.halves[which]
            rows = np.asarray(jax.random.permutation(draw, len(images)))[:size]
            return training.fit(key, network, images[rows], labels[rows], training.Recipe(3, decay_every=2))

        return Model(network, self._kept("independent", settings, make))

    def setup(self, victim: Any) -> Any:
        """What the defenses of a victim are made for."""
        from pp_jax.evaluation import Setup

        config = self.config
        return Setup(
            victim, config.pool(), config.test(), config.network(), config.attack.recipe(), config.attack.budget,
            probe=config.probe(), kept=config.runs / config.folder / "networks",
        )  # fmt: skip

    def steal(self, victim: Any, marking: Sequence[Any], fate: Fate) -> Stolen:
        """Steal a victim behind the mark's defense and the fate's; the attacker knows of the second alone.

        Where the mark is the only defense, that is what it knows of.
        """
        import jax
        import numpy as np

        from pp_jax import BlackBox, attacks, chain, training
        from pp_jax.defenses.cards import presumed
        from pp_jax.evaluation import named
        from pp_jax.evaluation.setups import deploy
        from pp_jax.ownership import Model
        from pp_jax.recovery import Knowledge, smoothing
        from pp_jax.serving.blackbox import Metered
        from pp_jax.training.losses import supervised_by
        from pp_jax.training.predicting import predict

        config, setup = self.config, self.setup(victim)
        entries = [*marking, *([] if fate.then is None else [named.defense(fate.then)])]
        links: list[Any] = [deploy(setup, entry, self.seed).box.defense for entry in entries]
        attack_key, model_key, own_key, secret = jax.random.split(jax.random.fold_in(jax.random.key(self.seed), 5), 4)
        attacker = named.attacker(fate.recovery)
        box = BlackBox(victim.network, victim.params, chain(*links), secret, batch_size=500)
        client = Recorder(Metered(box.api(), config.attack.budget))
        probes = attacker.probes if setup.probe is not None else 0
        api: Any = client if attacker.copies == 1 else smoothing(own_key, client, copies=attacker.copies)
        count = (config.attack.budget - probes) // attacker.copies
        transfer = attacks.collect(attack_key, attacker.strategy, setup.pool.images, api, budget=count)
        probe = None
        if probes:
            images = setup.probe.images[:probes]
            probe = transfer._replace(images=images, answers=client(images))
        believed = presumed(links[-1], own_key, setup.network, setup.image_shape) if links else None
        knowledge = Knowledge(setup.network, setup.recipe, believed, probe=probe)
        targets = attacker.recovery(attack_key, transfer, knowledge=knowledge)
        answers = np.asarray(targets.answers)
        params = training.fit(
            model_key, setup.network, targets.images, answers, setup.recipe, loss=supervised_by(answers)
        )
        if fate.tuned:
            images, labels = (part[-OWN_IMAGES:] for part in self.halves[1])
            tuning = training.Recipe(3, learning_rate=0.02)
            params = training.fit(own_key, setup.network, images, labels, tuning, params=params)
        asked = np.concatenate(client.images)
        probs = predict(victim.network, victim.params, asked)
        return Stolen(Model(setup.network, params), box.defense, secret, asked, probs, np.concatenate(client.answers))

    def _kept(self, kind: str, settings: Any, make: Callable[[Any], Any]) -> Any:
        """The parameters of a network of the victim's architecture that is trained once."""
        import jax

        from pp_jax.defenses.cards import Defender, NetworkSettings
        from pp_jax.results.identity import describe

        plain, config = self.plain, self.config
        shape = config.test().images.shape[1:]
        key = jax.random.key(plain.seed + self.seed + 1)
        like = jax.eval_shape(lambda: plain.network.init(key, shape))
        defender = Defender(
            plain.network, plain.params, plain.images, plain.labels, plain.recipe, len(config.test().class_names),
            shape, plain.network, key, identity=plain.identity, kept=config.runs / config.folder / "networks",
        )  # fmt: skip
        how = {"attack": dataclasses.asdict(config.attack), "recipe": describe(plain.recipe)}
        what = NetworkSettings(kind, {**settings, **how, "key": describe(key)})
        return defender.keep(what, like, lambda: (make(key), {}))
