"""One run: one attacker against one defense with one seed, from the first query to the record."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from pp_jax._checks import remembers
from pp_jax.attacks.driver import collect
from pp_jax.attacks.knockoff import Knockoff
from pp_jax.attacks.online import online
from pp_jax.defenses.cards import Defender, presumed
from pp_jax.defenses.composition import UNDEFENDED
from pp_jax.detection.accusing import accused
from pp_jax.detection.policy import Policy
from pp_jax.evaluation import metrics
from pp_jax.evaluation.attackers import Attacker
from pp_jax.evaluation.entries import Entry
from pp_jax.evaluation.victims import Images, Victim
from pp_jax.recovery.knowledge import Knowledge, keys
from pp_jax.recovery.simple import smoothing
from pp_jax.results import records
from pp_jax.results.identity import describe
from pp_jax.serving.blackbox import BlackBox, Metered
from pp_jax.training import Best, FirstClasses, Recipe, fit, fit_resumably
from pp_jax.training.losses import supervised_by
from pp_jax.training.predicting import predict
from pp_jax.types import SurrogateDefense, TransferSet

KIND = "tradeoff"
KEEP_EVERY_S = 60.0
"""Seconds of training that a kill may cost."""
_AT_ONCE = 500
_SAYS_NOTHING = 1e-6

Progress = Callable[[float], None]
"""Is told which share of a run is done."""


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """All that the runs of an evaluation share.

    Attributes:
        victim: the model that is attacked.
        pool: what is queried.
        test: what everyone is judged on.
        network: the attacker's architecture.
        recipe: how the attacker trains.
        budget: queries of each attacker.
        presumed: the architecture that the defender presumes; the attacker's by default: its presumption is right.
        outliers: images of another distribution that the defender owns.
        start: parameters that the attacker starts from; fresh ones by default.
        probe: images of another pool, that attackers may spend a few queries on.
        note: what else a record should tell, as JSON values.
        kept: folder of the networks that defenses train for themselves.
    """

    victim: Victim
    pool: Images
    test: Images
    network: Any
    recipe: Recipe
    budget: int
    presumed: Any = None
    outliers: Any = None
    start: Any = None
    probe: Images | None = None
    note: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    kept: Path | None = None

    @functools.cached_property
    def classes(self) -> int:
        """K."""
        shape = jax.eval_shape(self.victim.network, self.victim.params, np.asarray(self.test.images[0])).shape
        return int(shape[-1])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        height, width, channels = np.shape(self.test.images)[1:]
        return height, width, channels

    def victim_of(self, entry: Entry) -> Victim:
        """The victim that an entry defends.

        Raises:
            ValueError: for an entry that needs outlier exposure where no such victim was given.
        """
        if not entry.exposed:
            return self.victim
        if self.victim.exposed is None:
            raise ValueError(
                f"{entry.label} was published on a victim with outlier exposure: give Victim(…, exposed=…), or "
                "Entry(…, exposed=False) to race it on the plain one"
            )
        return self.victim.exposed

    @functools.cached_property
    def shared(self) -> dict[str, Any]:
        """What every record of this evaluation has in common."""
        how = {"network": describe(self.network), "recipe": describe(self.recipe)}
        if self.start is not None:
            how["start"] = describe(jax.tree.leaves(self.start))
        if self.probe is not None:
            how["probe"] = self.probe.identity
        return {**how, "pool": self.pool.identity, "test": self.test.identity, "budget": self.budget, **self.note}


class Run(NamedTuple):
    """One cell of an evaluation.

    Attributes:
        entry: the defense.
        attacker: who attacks.
        seed: of the attack, the stolen model, an untrained surrogate and the defender's secret key.
    """

    entry: Entry
    attacker: Attacker
    seed: int

    def config(self, setup: Setup) -> dict[str, Any]:
        """What determines the result; its hash names the record."""
        victim = setup.victim_of(self.entry)
        attacker, shared = self.attacker.identity(), setup.shared
        attack = {
            **attacker,
            "pool": setup.pool.name,
            "model": model_name(setup.network),
            "budget": setup.budget,
            "epochs": setup.recipe.epochs,
        }
        defense = dict(_identity(self.entry))
        if setup.presumed is not None:
            defense["presumed"] = model_name(setup.presumed)
        content = {name: value for name, value in shared.items() if name not in setup.note}
        return {
            "victim": victim.identity,
            "attack": attack,
            "defense": defense,
            "setting": records.key(content),
            **setup.note,
            "seed": self.seed,
        }

    def text(self) -> str:
        """In a few words."""
        return f"{self.entry.text()}, {self.attacker.name}, seed {self.seed}"


@dataclasses.dataclass(frozen=True, eq=False)
class Deployed:
    """A defense in front of its victim, for one seed.

    Attributes:
        box: the prediction API with its audit.
        surrogate: network and parameters by which angles are measured: the defense's own, where it has one.
        attack_key: randomness of queries and recoveries.
        model_key: randomness of the stolen model's initialisation and training.
    """

    box: BlackBox
    surrogate: tuple[Any, Any]
    attack_key: jax.Array
    model_key: jax.Array


@functools.lru_cache(maxsize=256)
def _identity(entry: Entry) -> dict[str, Any]:
    return entry.identity()


def deploy(setup: Setup, entry: Entry, seed: int) -> Deployed:
    """Make the defense of an entry, and put it in front of its victim."""
    attack_key, model_key, surrogate_key, secret = jax.random.split(jax.random.key(seed), 4)
    victim = setup.victim_of(entry)
    guess = setup.network if setup.presumed is None else setup.presumed
    defender = Defender(
        victim.network,
        victim.params,
        victim.images,
        victim.labels,
        victim.recipe,
        setup.classes,
        setup.image_shape,
        guess,
        surrogate_key,
        victim.seed + 1000,
        setup.outliers,
        victim.identity,
        setup.kept,
    )
    defense = entry.make(defender)
    box = BlackBox(victim.network, victim.params, defense, secret)
    if isinstance(defense, SurrogateDefense):
        return Deployed(box, (defense.logits_fn, defense.surrogate), attack_key, model_key)
    return Deployed(box, (guess, guess.init(surrogate_key, setup.image_shape)), attack_key, model_key)


class Stolen(NamedTuple):
    """The responses to an attacker's queries.

    Attributes:
        transfer: images and responses, each image once.
        probe: the same for the few queries of another pool.
        queries: how many were spent.
        seconds: that it took.
    """

    transfer: TransferSet
    probe: TransferSet | None
    queries: int
    seconds: float


def query(setup: Setup, at: Deployed, attacker: Attacker, progress: Progress) -> Stolen:
    """Spend the budget."""
    started = time.perf_counter()
    meter = Metered(at.box.api(), setup.budget)
    api: Any = meter
    if attacker.copies > 1:
        api = smoothing(jax.random.fold_in(at.attack_key, 1), meter, copies=attacker.copies)
    probes = 0 if setup.probe is None else min(attacker.probes, setup.budget // 2, len(setup.probe.images))
    count = (setup.budget - probes) // attacker.copies
    told = _share(progress, count)
    transfer = collect(at.attack_key, attacker.strategy, setup.pool.images, api, budget=count, progress=told)
    probe = None
    if setup.probe is not None and probes:
        images = setup.probe.images[:probes]
        probe = TransferSet(images, np.asarray(meter(images)))
    return Stolen(transfer, probe, meter.spent, time.perf_counter() - started)


def query_online(setup: Setup, at: Deployed, attacker: Attacker, progress: Progress) -> tuple[Stolen, tuple[Any, Any]]:
    """Spend the budget while training: the responses, and the stolen model's network and parameters."""
    assert attacker.online is not None
    started, network = time.perf_counter(), setup.network
    order = Knockoff().init(at.attack_key, setup.pool.images).order[: setup.budget]
    found = online(
        at.model_key,
        network,
        setup.pool.images[order],
        at.box,
        optimizer=setup.recipe.optimizer(1),
        sees=attacker.online,
        proxy=network if attacker.online == "proxy" else None,
        batch_size=setup.recipe.batch_size,
        progress=_share(progress, setup.budget),
    )
    stolen = Stolen(found.transfer, None, found.transfer.queries, time.perf_counter() - started)
    return stolen, (network, found.params)


def _share(progress: Progress, budget: int) -> Callable[[int], None]:
    """Hears of queries, and tells which share of the budget is spent."""
    spent = 0

    def told(queries: int) -> None:
        nonlocal spent
        spent += queries
        progress(spent / budget)

    return told


def recover(setup: Setup, at: Deployed, attacker: Attacker, stolen: Stolen) -> TransferSet:
    """What the attacker trains on."""
    _, own = keys(at.attack_key)
    probe = None if stolen.probe is None else answered(stolen.probe)
    knowledge = Knowledge(
        setup.network,
        setup.recipe,
        presumed(at.box.defense, own, setup.network, setup.image_shape),
        at.box.defense,
        (at.box.logits_fn, at.box.params),
        probe,
    )
    return attacker.recovery(at.attack_key, answered(stolen.transfer), knowledge=knowledge)


def answered(transfer: TransferSet) -> TransferSet:
    """A transfer set without the responses that say nothing, such as a blocked account's; as it is if all are so.

    An API would refuse these queries; here the refusal is the uniform posterior.
    """
    rows = np.asarray(transfer.answers)
    says = np.ptp(rows, axis=1) > _SAYS_NOTHING
    return TransferSet(transfer.images[says], rows[says]) if says.any() and not says.all() else transfer


def applies(setup: Setup, entry: Entry, attacker: Attacker) -> bool:
    """Whether an attacker has anything to recover from a defense, and a way to build it where it needs that."""
    at = _deployed(setup, entry)
    defense = at.box.defense
    if isinstance(defense, Policy) and attacker.online is None:
        defense = defense.acting
    if attacker.online == "fixed":
        return not remembers(defense)
    if attacker.online is not None:
        return isinstance(defense, SurrogateDefense) and defense.logits_fn == setup.network
    if not attacker.recovery.applies_to(defense):
        return False
    if attacker.recovery.applies_to(UNDEFENDED) or attacker.privileged:
        return True  # needs no idea of the defense
    return presumed(defense, at.attack_key, setup.network, setup.image_shape) is not None


def learn(
    setup: Setup, at: Deployed, attacker: Attacker, targets: TransferSet, partial: Path | None, identity: Any,
    progress: Progress,
) -> tuple[Any, Any]:  # fmt: skip
    """Train the stolen model: its network and parameters.

    After a kill in a long training it goes on from `partial`, unless held-out responses choose the epoch.
    """
    recipe, learner = setup.recipe, attacker.learner
    network = setup.network
    if learner.extra_outputs:
        network = network.with_outputs(setup.classes + learner.extra_outputs)
    images, answers = targets.images, targets.answers
    held = int(learner.held_out * len(images))
    best = Best(network, images[:held], answers[:held]) if held else None

    def told(state: Any, loss: float) -> None:
        if best is not None:
            best(state, loss)
        progress(state.epoch / recipe.epochs)

    options: dict[str, Any] = {"params": setup.start, "on_epoch": told, "loss": supervised_by(answers)}
    if learner.loss is not None:
        most = recipe.epochs * len(targets.images)
        others = unqueried(jax.random.fold_in(at.attack_key, 3), setup.pool.images, targets.images, most=most)
        options |= {"loss": learner.loss, "unlabelled": others}
    pairs = at.model_key, network, images[held:], answers[held:], recipe
    if best is not None:
        fit(*pairs, **options)
        params = best.params
    elif partial is None:
        params = fit(*pairs, **options)
    else:
        params = fit_resumably(partial, *pairs, identity=identity, every_s=KEEP_EVERY_S, **options)
    return (FirstClasses(network, setup.classes) if learner.extra_outputs else network), params


def unqueried(key: jax.Array, pool: Any, queried: Any, *, most: int) -> Any:
    """Images of the pool that were not queried, nor are copies of one that was: at random, no more than `most`.

    Raises:
        ValueError: where none is left.
    """
    known = {image.tobytes() for image in queried}
    left = np.flatnonzero([image.tobytes() not in known for image in pool])
    if len(left) == 0:
        raise ValueError("no image of the pool is left that was not queried: the budget must be smaller")
    return pool[np.sort(np.asarray(jax.random.permutation(key, left))[:most])]


def judge(setup: Setup, at: Deployed, stolen: Stolen, network: Any, params: Any) -> dict[str, Any]:
    """What a run came to: accuracies in [0, 1], distances of the responses, a few examples."""
    test = setup.test
    predicted = predict(network, params, test.images)
    answers, clean, examples = _on_test_images(setup, at)
    images, responses = stolen.transfer.images, stolen.transfer.answers
    own = predict(at.box.logits_fn, at.box.params, images)
    angles = metrics.angular_deviation(own, responses, images, logits_fn=at.surrogate[0], params=at.surrogate[1])
    return {
        "victim_accuracy": metrics.accuracy(clean, test.labels),
        "attacker_accuracy": metrics.accuracy(predicted, test.labels),
        "defender_accuracy": metrics.accuracy(answers, test.labels),
        "fidelity": metrics.agreement(predicted, clean),
        "test_l1": metrics.distances(clean, answers)["l1"],
        "test_kept_argmax": metrics.agreement(answers, clean),
        "examples": examples,
        **{f"query_{name}": values for name, values in metrics.distances(own, responses).items()},
        "query_angle_degrees": metrics.summary(angles),
        "query_kept_argmax": metrics.agreement(responses, own),
        "queries": stolen.queries,
        "chance": 1 / setup.classes,
        **_accusations(setup, at),
    }


def compute(setup: Setup, run: Run, folder: Path, progress: Progress = lambda _: None) -> None:
    """Attack, judge, and write the record of a run."""
    started = time.perf_counter()
    at = _deployed(setup, run.entry, run.seed)
    if run.attacker.online is not None:
        stolen, model = query_online(setup, at, run.attacker, progress)
        write(setup, run, folder, at, stolen, *model, {}, started)
        return
    stolen = _queried(setup, run, lambda share: progress(0.1 * share))
    targets = recover(setup, at, run.attacker, stolen)
    recovered = time.perf_counter()
    config = run.config(setup)
    partial = folder / f"{records.key(config)}.partial"

    def told(share: float) -> None:
        progress(0.2 + 0.8 * share)

    network, params = learn(setup, at, run.attacker, targets, partial, config, told)
    write(setup, run, folder, at, stolen, network, params, {"train_s": time.perf_counter() - recovered}, started)
    records.discard(partial)


def write(
    setup: Setup, run: Run, folder: Path, at: Deployed, stolen: Stolen, network: Any, params: Any,
    seconds: Mapping[str, float], started: float,
) -> None:  # fmt: skip
    """Judge a stolen model, and write the record."""
    result = judge(setup, at, stolen, network, params)
    timings = {"queries_s": stolen.seconds, **seconds, "total_s": time.perf_counter() - started}
    records.write(folder, kind=KIND, config=run.config(setup), result=result, timings=timings)


def model_name(network: Any) -> str:
    """What tables call an architecture: the class of its module, in lower case."""
    return type(getattr(network, "module", network)).__name__.lower()


# What runs next to one another share: one deployed defense, one set of queries, one look at the test images.
@functools.lru_cache(maxsize=2)
def _deployed(setup: Setup, entry: Entry, seed: int = 0) -> Deployed:
    return deploy(setup, entry, seed)


def _queried(setup: Setup, run: Run, progress: Progress) -> Stolen:
    """The responses to the queries of a run; attackers that query alike share them."""
    how = repr(describe([run.attacker.strategy, run.attacker.copies, run.attacker.probes]))
    key = (id(setup), id(run.entry), run.seed, how)
    if key not in _RECENT:
        _RECENT.clear()
        _RECENT[key] = query(setup, _deployed(setup, run.entry, run.seed), run.attacker, progress), setup, run.entry
    return _RECENT[key][0]


_RECENT: dict[Any, tuple[Stolen, Setup, Entry]] = {}


@functools.lru_cache(maxsize=2)
def _on_test_images(setup: Setup, at: Deployed) -> tuple[Any, Any, list[dict[str, Any]]]:
    """Responses and clean posteriors of a new user's test images, (N, K) each, and a few examples."""
    answers, clean = ask(at.box, setup.test.images)
    labels = np.asarray(setup.test.labels)
    shown = [int((labels == label).argmax()) for label in range(min(4, labels.max() + 1))]
    return answers, clean, [_example(setup.test, index, clean, answers) for index in shown]


def _accusations(setup: Setup, at: Deployed) -> dict[str, Any]:
    """Shares of benign accounts, by kind, that a policy treats otherwise than it should; nothing for other defenses."""
    if not isinstance(at.box.defense, Policy):
        return {}
    return {"accused": _accused(setup, at)}


@functools.lru_cache(maxsize=2)
def _accused(setup: Setup, at: Deployed) -> dict[str, float]:
    policy = at.box.defense
    assert isinstance(policy, Policy)
    return accused(at.attack_key, policy, at.box.logits_fn, setup.test.images, setup.test.labels)


def ask(box: BlackBox, images: Any) -> tuple[Any, Any]:
    """Responses of a black box to a new user, and the clean posteriors behind them, (N, K) each, on the host.

    Where a policy's thresholds were set on accounts of so many queries, every so many images are another new user's.
    """
    most = len(images)
    if isinstance(box.defense, Policy) and box.defense.account_queries is not None:
        most = min(most, box.defense.account_queries)
    parts = []
    for start in range(0, len(images), most):
        session, stop = box.session(), min(start + most, len(images))
        parts += [session(images[i : min(i + _AT_ONCE, stop)]) for i in range(start, stop, _AT_ONCE)]
    answers = np.concatenate([np.asarray(response) for response, _ in parts])
    return answers, np.concatenate([np.asarray(audit.probs) for _, audit in parts])


def _example(test: Images, index: int, clean: Any, answers: Any) -> dict[str, Any]:
    """One image with its clean and its returned posterior, for the report."""
    from PIL import Image

    image = np.asarray(test.images[index])
    if image.dtype != np.uint8:
        image = np.round(255 * image).astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(image.squeeze()).save(png, "PNG")
    names = test.class_names or tuple(str(label) for label in range(clean.shape[1]))
    return {
        "image_png": base64.b64encode(png.getvalue()).decode(),
        "label": int(test.labels[index]),
        "class_names": list(names),
        "clean": clean[index].tolist(),
        "answer": answers[index].tolist(),
    }
