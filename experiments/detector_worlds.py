"""The victim, the benign accounts and the attackers that `experiments.detectors` tries every detector on."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments import common

SIZES = (30, 100, 300, 1000, 2000)
"""Queries at which a stolen model is trained, for the curve of its accuracy."""
PROBES = 100
ADAPTIVE = ("adaptive Knockoff", "JBDA", "JB-top3")
"""Attacks whose queries depend on the responses."""


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """What all detectors are tried on.

    Attributes:
        victim: with network and parameters.
        snapshots: parameters by epoch of another training run, on 10,000 of the victim's images.
        fitted: benign images that detectors are made from, as the victim sees them, with their classes.
        calibration: the benign accounts that thresholds are set on, of images that no detector was made from: the
            pool and the streams.
        kinds: benign accounts by kind: the pool and the streams.
        attacks: attacking accounts by attack: the pool and the streams, (A, n).
        own: images of the victim's distribution that an informed attacker owns.
        accuracy: of a stolen model, by attack and number of queries.
        identities: over how many accounts an attacker splits its budget.
        mixtures: shares of its own images that an informed attacker mixes in.
    """

    victim: Any
    snapshots: list[Any]
    fitted: tuple[Any, Any]
    calibration: tuple[Any, Any]
    kinds: Mapping[str, tuple[Any, Any]]
    attacks: Mapping[str, tuple[Any, Any]]
    own: Any
    accuracy: "Accuracy"
    identities: tuple[int, ...]
    mixtures: tuple[float, ...]


def world(config: Any) -> World:
    """All of it, for the options of `experiments.detectors`."""
    import jax
    import numpy as np

    from pp_jax import detection, training
    from pp_jax._checks import name_of
    from pp_jax.data.drift import DRIFTS, drifted
    from pp_jax.detection import benign

    victim, test, n = config.trained(), config.test(), config.attack.budget
    network, params, key = victim.network, victim.params, jax.random.key(config.seeds[0])
    first, second, third = np.array_split(np.random.default_rng(0).permutation(len(test.images)), 3)
    truth = np.asarray(test.labels)
    fitted, calibrating, other = (
        detection.observe(network, params, test.images[part]) for part in (first, second, third)
    )
    kinds = {
        name_of(habit): (other, habit(jax.random.fold_in(key, i), truth[third], config.measured, n))
        for i, habit in enumerate(benign.HABITS)
    }
    for drift in DRIFTS:
        seen = detection.observe(network, params, drifted(key, test.images[third], drift))
        kinds[str(drift)] = seen, kinds["uniform"][1]
    snapshots: list[Any] = []
    training.fit(
        key, network, victim.images[:10_000], victim.labels[:10_000], training.Recipe(6, 64, 0.05),
        on_epoch=lambda state, _: snapshots.append(jax.tree.map(np.array, state.params)),
    )  # fmt: skip
    attacks = attackers(config, victim)
    calm = calibrating, benign.uniform(key, truth[second], config.accounts, n)
    own = detection.Observed(*(leaf[: config.own_images] for leaf in other))
    identities = tuple(count for count in config.identities if count <= n)
    return World(
        victim, snapshots, (fitted, truth[first]), calm, kinds, attacks, own, Accuracy(config, attacks), identities,
        config.mixtures,
    )  # fmt: skip


def attackers(config: Any, victim: Any) -> dict[str, tuple[Any, Any]]:
    """The queries of each attack on the undefended victim: a pool as the victim sees it, and accounts' streams.

    Attacks whose queries depend on the responses have one account, all others `measured` of them.
    """
    import jax
    import numpy as np

    from pp_jax import BlackBox, attacks, detection, training
    from pp_jax.data.reshaping import as_mnist

    n, pool, network = config.attack.budget, config.pool(), config.network()
    key, rng = jax.random.key(config.seeds[0]), np.random.default_rng(config.seeds[0])
    rows = rng.permutation(len(pool.images))[: max(4 * n, 8000)]
    pictures = np.asarray(pool.images)[rows]

    def random_order(count: int) -> Any:
        return np.stack([rng.choice(count, n, replace=n > count) for _ in range(config.measured)])

    def seen(images: Any) -> Any:
        return detection.observe(victim.network, victim.params, images)

    streams = random_order(len(pictures))
    found = {f"Knockoff, {pool.name}": (seen(pictures), streams)}
    if pictures.shape[1:] == (28, 28, 1):
        found[f"Knockoff, {pool.name} as MNIST"] = seen(as_mnist(pictures)), streams
    name = config.other or ("notmnist" if pool.name == common.PROBE else common.PROBE)
    probes = np.asarray(common.images(name, "train", config.data_dir).images)
    probes = probes[np.sort(rng.permutation(len(probes))[: min(PROBES, n // 2)])]
    last = np.broadcast_to(len(pictures) + np.arange(len(probes)), (config.measured, len(probes)))
    both = np.concatenate([streams[:, : n - len(probes)], last], axis=1)
    found[f"neighbour attack, with {len(probes)} of {name}"] = seen(np.concatenate([pictures, probes])), both
    noise = rng.integers(0, 256, (4000, *pictures.shape[1:]), np.uint8)
    found["random noise"] = seen(noise), random_order(len(noise))
    substitute = training.Recipe(5, learning_rate=0.05, momentum=0.9)
    classes = common.known_classes(dataclasses.replace(pool, images=pictures, labels=np.asarray(pool.labels)[rows]))
    starts = np.asarray(config.test().images[-1000:])
    made: dict[str, tuple[Any, Any]] = {
        "adaptive Knockoff": (attacks.AdaptiveKnockoff(classes, thief=network, batch_size=50), pictures),
        "JBDA": (attacks.jbda(network, recipe=substitute, seed_size=100), starts),
        "JB-top3": (attacks.jb_topk(network, recipe=substitute, seed_size=100), starts),
    }
    for name, (strategy, start) in made.items():
        if name in config.skip:
            continue
        api = BlackBox(victim.network, victim.params).api()
        transfer = attacks.collect(key, strategy, start, api, budget=n)
        found[name] = seen(transfer.images), np.arange(len(transfer.images))[None]
    return found


class Accuracy:
    """Accuracy in % of models stolen with so many queries of an attack, between those that were trained interpolated.

    The models are trained on the first queries of the attack's first account; from few responses for up to four times
    as many epochs, as an attacker would who has no more.

    Args:
        config: how attackers train.
        attacks: pools and streams by attack.
    """

    def __init__(self, config: Any, attacks: Mapping[str, tuple[Any, Any]]) -> None:
        self._config, self._attacks = config, attacks
        self._curves: dict[str, Any] = {}

    def __call__(self, attack: str, queries: float) -> float:
        """The accuracy; that of guessing for none."""
        import numpy as np

        if attack not in self._curves:
            stream = self._attacks[attack][1][0]
            sizes = sorted({*(size for size in SIZES if size < len(stream)), len(stream)})
            guess = 100 / len(self._config.test().class_names)
            self._curves[attack] = [1, *sizes], [guess, *(self.trained(attack, stream[:size]) for size in sizes)]
        sizes, values = self._curves[attack]
        return float(np.interp(np.log(max(queries, 1)), np.log(sizes), values))

    def trained(self, attack: str, rows: Any) -> float:
        """That of one model, trained on these rows of the attack's pool."""
        import jax
        import numpy as np

        from pp_jax import metrics, training

        rows = np.asarray(rows)
        seen, test = self._attacks[attack][0], self._config.test()
        network, recipe = self._config.network(), self._config.attack.recipe()
        more = int(np.clip(self._config.attack.budget // max(len(rows), 1), 1, 4))
        recipe = dataclasses.replace(recipe, batch_size=min(recipe.batch_size, len(rows)), epochs=recipe.epochs * more)
        key = jax.random.key(self._config.seeds[0])
        params = training.fit(key, network, np.asarray(seen.images[rows]), np.asarray(seen.probs[rows]), recipe)
        return 100 * metrics.accuracy(metrics.predict(network, params, test.images), test.labels)
