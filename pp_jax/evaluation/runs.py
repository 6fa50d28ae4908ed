"""One run: one attacker against one defense with one seed, from the first query to the record."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pp_jax._checks import remembers
from pp_jax.attacks.driver import collect
from pp_jax.attacks.knockoff import Knockoff
from pp_jax.attacks.online import online
from pp_jax.defenses.cards import presumed
from pp_jax.defenses.composition import UNDEFENDED
from pp_jax.detection.policy import Policy
from pp_jax.evaluation import keeping
from pp_jax.evaluation.answered import AnsweredNetwork
from pp_jax.evaluation.attackers import Attacker
from pp_jax.evaluation.entries import Entry
from pp_jax.evaluation.judging import judge
from pp_jax.evaluation.owning import joined
from pp_jax.evaluation.setups import KIND, Deployed, Run, Setup, Stolen, deploy
from pp_jax.evaluation.strategies import completed
from pp_jax.recovery.knowledge import Knowledge, keys
from pp_jax.recovery.simple import smoothing
from pp_jax.results import records
from pp_jax.results.identity import describe
from pp_jax.serving.blackbox import API, Metered
from pp_jax.training import Best, FirstClasses, WrappingLoss, fit, fit_resumably
from pp_jax.training.losses import supervised_by
from pp_jax.types import SurrogateDefense, TransferSet

KEEP_EVERY_S = 60.0
"""Seconds of training that a kill may cost."""
_SAYS_NOTHING = 1e-6

Progress = Callable[[float], None]
"""Is told which share of a run is done."""


def query(setup: Setup, at: Deployed, attacker: Attacker, progress: Progress) -> Stolen:
    """Spend the budget."""
    started = time.perf_counter()
    meter = Metered(spread(at.box.api, attacker.accounts, setup.budget), setup.budget)
    api: Any = meter
    if attacker.copies > 1:
        api = smoothing(jax.random.fold_in(at.attack_key, 1), meter, copies=attacker.copies)
    probes = 0 if setup.probe is None else min(attacker.probes, setup.budget // 2, len(setup.probe.images))
    count = (setup.budget - probes) // attacker.copies
    told = _share(progress, count)
    strategy = completed(attacker, setup.network, setup.recipe, count)
    transfer = collect(at.attack_key, strategy, pool_of(setup, attacker), api, budget=count, progress=told)
    probe = None
    if setup.probe is not None and probes:
        images = setup.probe.images[:probes]
        if attacker.reshape is not None and attacker.reshape.applies_to(images):
            images = attacker.reshape(images)
        probe = TransferSet(images, np.asarray(meter(images)))
    return Stolen(transfer, probe, meter.spent, time.perf_counter() - started)


def spread(api: Callable[[], API], accounts: int, budget: int) -> API:
    """An API that asks an even share of a budget with each of so many accounts, one after another."""
    if accounts == 1:
        return api()
    each, asked, current = -(-budget // accounts), 0, api()

    def ask(images: Any) -> Any:
        nonlocal asked, current
        answers, place = [], 0
        while place < len(images):
            if asked == each:
                asked, current = 0, api()
            part = images[place : place + each - asked]
            answers.append(np.asarray(current(part)))
            asked, place = asked + len(part), place + len(part)
        return np.concatenate(answers)

    return ask


def pool_of(setup: Setup, attacker: Attacker) -> Any:
    """The images that an attacker queries: the pool's, as it reshapes them."""
    return setup.pool.images if attacker.reshape is None else _reshaped(setup, attacker.reshape)


@functools.lru_cache(maxsize=2)
def _reshaped(setup: Setup, reshape: Any) -> Any:
    return reshape(setup.pool.images)


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
    targets = attacker.recovery(at.attack_key, answered(stolen.transfer), knowledge=knowledge)
    if not attacker.own or setup.own is None:
        return targets
    return joined(jax.random.fold_in(at.attack_key, 6), targets, setup.own, attacker.own, setup.classes)


def answered(transfer: TransferSet) -> TransferSet:
    """A transfer set without the responses that say nothing, such as a blocked account's; as it is if all are so.

    An API would refuse these queries; here the refusal is the uniform posterior.
    """
    rows = np.asarray(transfer.answers)
    says = np.ptp(rows, axis=1) > _SAYS_NOTHING
    return TransferSet(transfer.images[says], rows[says]) if says.any() and not says.all() else transfer


def applies(setup: Setup, entry: Entry, attacker: Attacker) -> bool:
    """Whether an attacker has anything to recover from a defense, and a way to build it where it needs that."""
    if attacker.reshape is not None and not _can_reshape(setup, attacker.reshape):
        return False
    at = _deployed(setup, entry)
    defense = at.box.defense
    if isinstance(defense, Policy) and attacker.online is None:
        defense = defense.acting
    if attacker.online == "fixed":
        return not remembers(defense)
    if attacker.online is not None:
        return isinstance(defense, SurrogateDefense) and defense.logits_fn == setup.network
    if attacker.accounts > 1 and not remembers(at.box.defense):
        return False
    if not attacker.recovery.applies_to(defense):
        return False
    if attacker.recovery.applies_to(UNDEFENDED) or attacker.privileged:
        return True  # needs no idea of the defense
    return presumed(defense, at.attack_key, setup.network, setup.image_shape) is not None


def _can_reshape(setup: Setup, reshape: Any) -> bool:
    """Whether a pool can be reshaped; images that are new to a victim of recorded answers have none."""
    return bool(reshape.applies_to(setup.pool.images)) and not isinstance(setup.victim.network, AnsweredNetwork)


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
    if isinstance(learner.loss, WrappingLoss):
        network = learner.loss.around(network)
    best = Best(network, images[:held], answers[:held]) if held else None

    def told(state: Any, loss: float) -> None:
        if best is not None:
            best(state, loss)
        progress(state.epoch / recipe.epochs)

    begun = setup.start
    if learner.start is not None:
        begun = learner.start.start(jax.random.fold_in(at.model_key, 1), network, setup.image_shape)
    options: dict[str, Any] = {"params": begun, "on_epoch": told, "loss": supervised_by(answers)}
    if learner.loss is not None:
        options["loss"] = learner.loss
    if learner.reads_unlabelled:
        most = recipe.epochs * len(targets.images)
        others = unqueried(jax.random.fold_in(at.attack_key, 3), pool_of(setup, attacker), targets.images, most=most)
        options["unlabelled"] = others
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
    """Judge a stolen model, keep it where that is wanted, and write the record: with one, the model is there."""
    result = judge(setup, at, stolen, network, params, adapted=run.attacker.learner.adapted)
    if setup.keep_models:
        keeping.save(folder, run.config(setup), params, extra_outputs=run.attacker.learner.extra_outputs)
    timings = {"queries_s": stolen.seconds, **seconds, "total_s": time.perf_counter() - started}
    records.write(folder, kind=KIND, config=run.config(setup), result=result, timings=timings)


# What runs next to one another share: one deployed defense, one set of queries, one look at the test images.
@functools.lru_cache(maxsize=2)
def _deployed(setup: Setup, entry: Entry, seed: int = 0) -> Deployed:
    return deploy(setup, entry, seed)


def _queried(setup: Setup, run: Run, progress: Progress) -> Stolen:
    """The responses to the queries of a run; attackers that query alike share them."""
    attacker = run.attacker
    how = repr(describe([attacker.strategy, attacker.copies, attacker.accounts, attacker.probes, attacker.reshape]))
    key = (id(setup), id(run.entry), run.seed, how)
    if key not in _RECENT:
        _RECENT.clear()
        _RECENT[key] = query(setup, _deployed(setup, run.entry, run.seed), run.attacker, progress), setup, run.entry
    return _RECENT[key][0]


_RECENT: dict[Any, tuple[Stolen, Setup, Entry]] = {}
