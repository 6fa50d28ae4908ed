"""The main entry: defenses and attackers in, the worst case of each defense out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pp_jax import _checks, _files
from pp_jax._checks import as_labels, check_count
from pp_jax.defenses.cards import Defender
from pp_jax.defenses.composition import chain
from pp_jax.evaluation import computing, metrics, runs, strategies
from pp_jax.evaluation.answered import AnsweredNetwork
from pp_jax.evaluation.attackers import STANDARD, Attacker, AttackerSet
from pp_jax.evaluation.entries import Entry
from pp_jax.evaluation.equalizing import Equal, Equalized, check_amount, equalize
from pp_jax.evaluation.keeping import check_keepable
from pp_jax.evaluation.machines import Machines
from pp_jax.evaluation.owning import check_own
from pp_jax.evaluation.report import Report, Row
from pp_jax.evaluation.setups import Run, Setup, model_name
from pp_jax.evaluation.victims import Images, Victim
from pp_jax.training import Recipe
from pp_jax.training.adapting import check_featured
from pp_jax.training.predicting import predict


def evaluate(
    victim: Victim,
    defenses: Iterable[Any],
    *,
    pool: Images | Any,
    test: Images,
    budget: int,
    attackers: AttackerSet | Sequence[Attacker] = STANDARD,
    seeds: Sequence[int] = (0, 1, 2),
    network: Any = None,
    recipe: Recipe = Recipe(12),  # noqa: B008
    equal: Equal | None = None,
    at: float | None = None,
    presumed: Any = None,
    outliers: Any = None,
    start: Any = None,
    probe: Images | None = None,
    own: Images | None = None,
    note: Mapping[str, Any] | None = None,
    runs_folder: str | Path = "runs/evaluation",
    machines: Machines = Machines(),  # noqa: B008
    keep_models: bool = False,
) -> Report:
    """Attack every defense with every attacker that applies, and report the worst case of each.

    Each run (defense, attacker, seed) is computed once and kept as a record, named by the content of everything that
    determines it: the same call goes on after a kill, several processes on one folder share the work, and another
    victim, pool or parameter is another record. The undefended victim is always the first row.

    Args:
        victim: the model that is attacked.
        defenses: what is evaluated: defense objects (`MyDefense(0.3)`), or `Entry(MAD, epsilon=0.99)` for classes that
            are made for a victim.
        pool: what attackers query, `Images` or an array (N, H, W, C).
        test: labelled images that everyone is judged on.
        budget: queries of each attacker; one image is one query.
        attackers: the standard set, another, or attackers of your own.
        seeds: each repeats every attack with other queries, another surrogate and another key; the victim stays.
        network: the attacker's architecture; the victim's by default.
        recipe: how attackers train.
        equal: bring every defense to the same loss of "accuracy", or the same mean "l1" distance, of `at`; by default
            each is evaluated as it is given.
        at: the amount that is made equal: a share of accuracy (0.02 is two points), or an L1 distance.
        presumed: the architecture that the defender presumes; the attacker's by default.
        outliers: images of another distribution that the defender owns, (M, H, W, C), for defenses that need them.
        start: parameters that attackers start from; fresh ones by default.
        probe: images of another pool, that attackers may spend a few of their queries on (the neighbour attack does).
        own: labelled images that attackers with images of their own have, not among those of `test` (`OWN_IMAGES`).
        note: what else the records should tell, as JSON values.
        runs_folder: where the records go.
        machines: where runs are computed.
        keep_models: whether to keep every stolen model beside its record, for `stolen_model`. Such runs are records of
            their own: those of a call without it are not found again.

    Returns:
        The report: rows, table, figure, page.

    Raises:
        ValueError: before anything is computed, for objects that break a contract, sets of images that do not fit, or
            numbers out of range.
    """
    folder = _files.expanded(runs_folder)
    pool = pool if isinstance(pool, Images) else Images(np.asarray(pool), name="pool")
    for seed in seeds:
        check_count("each of seeds", seed, low=0)
    check_count("budget", budget, low=0)
    seeds, budget = [int(seed) for seed in seeds], int(budget)
    entries = check(defenses, attackers, seeds, equal=equal, at=at)
    setup = Setup(
        victim, pool, test, network or victim.network, recipe, budget, presumed, outliers, start, probe, note or {},
        folder / "networks", own, keep_models,
    )  # fmt: skip
    check_setup(setup, entries, attackers)
    if keep_models:
        check_keepable(setup)
    rehearse(entries, victim, presumed or setup.network, setup.classes, setup.image_shape, outliers=outliers)
    chosen = [Equalized(entry) for entry in entries]
    if equal is not None and at is not None:
        chosen = [equalize(setup, entry, equal=equal, at=at) for entry in entries]
    return run(setup, chosen, attackers, seeds, folder, machines)


def run(
    setup: Setup,
    chosen: Sequence[Equalized],
    attackers: AttackerSet | Sequence[Attacker],
    seeds: Sequence[int],
    folder: Path,
    machines: Machines = Machines(),  # noqa: B008
) -> Report:
    """Compute what is missing of a checked evaluation; the report."""
    members = tuple(attackers)
    wanted: dict[tuple[int, str], list[Run]] = {}
    for number, item in enumerate(chosen):
        for attacker in members:
            if runs.applies(setup, item.entry, attacker):
                wanted[number, attacker.name] = [Run(item.entry, attacker, seed) for seed in seeds]
        if not any((number, attacker.name) in wanted for attacker in members):
            names = ", ".join(attacker.name for attacker in members)
            raise ValueError(f"{item.entry.text()}: none of the attackers applies to it ({names}); add `plain`")
    # One defense and seed after the other: attackers share its queries.
    order = sorted(
        (run for several in wanted.values() for run in several),
        key=lambda run: ([item.entry for item in chosen].index(run.entry), run.seed),
    )
    found = computing.compute(setup, order, folder, machines=machines)
    rows = []
    for number, item in enumerate(chosen):
        mine = {a.name: [found[run] for run in wanted[number, a.name]] for a in members if (number, a.name) in wanted}
        rows.append(_row(item, mine))
    version = f"{attackers.name} {attackers.version}" if isinstance(attackers, AttackerSet) else "of the caller"
    start = None
    if setup.start is not None:
        guesses = predict(setup.network, setup.start, setup.test.images)
        start = 100 * metrics.accuracy(guesses, setup.test.labels)
    return Report(title(setup), members, tuple(rows), version, start)


def check(
    defenses: Iterable[Any],
    attackers: AttackerSet | Sequence[Attacker],
    seeds: Sequence[int],
    *,
    equal: Equal | None = None,
    at: float | None = None,
) -> list[Entry]:
    """The entries, no defense first, once everything that can be seen to be wrong without a victim is refused.

    Raises:
        ValueError: for no seeds or attackers, names that are taken, or objects that break a contract.
    """
    if (equal is None) != (at is None):
        raise ValueError(f"equal is {equal!r} and at is {at!r}: must be given both or neither")
    if equal is not None and at is not None:
        check_amount(equal, at)
    if not len(tuple(seeds)):
        raise ValueError("seeds is empty: must hold at least one")
    members = tuple(attackers)
    if not members:
        raise ValueError("attackers is empty: must hold at least one")
    for attacker in members:
        if not isinstance(attacker, Attacker):
            raise ValueError(f"attackers has {attacker!r}: must be Attacker(…)")
        _checks.check_recovery(attacker.recovery)
        attacker.identity()
    names = [attacker.name for attacker in members]
    if taken := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"attackers has the name {taken[0]!r} twice: every attacker needs a name of its own")
    entries = [Entry.of(defense) for defense in defenses]
    if not any(entry.undefended for entry in entries):
        entries.insert(0, Entry(chain()))
    entries.sort(key=lambda entry: not entry.undefended)
    texts = [entry.text() for entry in entries]
    for entry, text in zip(entries, texts, strict=True):
        entry.identity()
        if texts.count(text) > 1:
            raise ValueError(f"defenses has {text!r} twice: give one of them another label=…")
    return entries


def check_setup(setup: Setup, entries: Sequence[Entry], attackers: AttackerSet | Sequence[Attacker]) -> None:
    """Refuse images that do not fit the victim or one another, and a budget that an attacker cannot spend.

    Raises:
        ValueError: naming what was found, and what it must be.
    """
    if setup.test.labels is None or len(setup.test.labels) != len(setup.test.images):
        raise ValueError("test must have as many labels as images: Images(images, labels)")
    as_labels(setup.test.labels, classes=setup.classes, name="test.labels")
    shape = np.shape(setup.test.images)[1:]
    if np.shape(setup.pool.images)[1:] != shape:
        raise ValueError(
            f"pool {setup.pool.name} has images {np.shape(setup.pool.images)[1:]}: must be {shape}, as those of "
            f"{setup.test.name}"
        )
    _check_answered(setup)
    check_budget(setup.budget, setup.pool, attackers)
    for attacker in attackers:
        strategies.rehearse(setup, attacker)
        _check_learner(setup, attacker)
    for entry in entries:
        setup.victim_of(entry)


def _check_learner(setup: Setup, attacker: Attacker) -> None:
    """Refuse an attacker whose weights, head or own images do not fit.

    Raises:
        ValueError: naming what it lacks.
    """
    learner = attacker.learner
    if learner.adapted:
        check_featured(setup.network)
    if learner.start is not None:
        network = setup.network.with_outputs(setup.classes + learner.extra_outputs) if learner.extra_outputs else None
        learner.start.check(network or setup.network, setup.image_shape)
    if attacker.own:
        check_own(setup.own, attacker.own, attacker.name, setup.image_shape, setup.classes)


def _check_answered(setup: Setup) -> None:
    """Refuse images that a victim of recorded answers has no answers to, and attackers without a network of their own.

    Raises:
        ValueError: saying how many images are missing.
    """
    network = setup.victim.network
    if not isinstance(network, AnsweredNetwork):
        return
    if setup.network is network:
        raise ValueError("network must be given where the victim is recorded answers: the attacker's architecture")
    for what, images in (("pool", setup.pool.images), ("test", setup.test.images)):
        if missing := network.missing(setup.victim.params, images):
            raise ValueError(
                f"{what}: {missing} of {len(images)} images have no recorded answer: must be among those recorded"
            )


def check_budget(budget: int, pool: Images, attackers: AttackerSet | Sequence[Attacker]) -> None:
    """Refuse a budget that an attacker cannot spend on a pool, or that leaves it nothing to learn from.

    Raises:
        ValueError: naming the budget, and what it must be.
    """
    size = len(pool.images)
    for attacker in attackers:
        each = attacker.strategy.capacity(size)
        most = attacker.copies * each
        if not attacker.copies <= budget <= most:
            limit = f" and at most {most:g}, as {pool.name} has {size} images" if most < math.inf else ""
            raise ValueError(f"budget is {budget}: must be at least {attacker.copies}{limit} ({attacker.name})")
        if attacker.learner.reads_unlabelled and budget // attacker.copies >= each:
            raise ValueError(
                f"budget is {budget}: must be below {most:g}, the images of {pool.name}: {attacker.name} learns from "
                "images that are not queried as well"
            )
        strategies.completed(attacker, None, None, budget // attacker.copies)


def rehearse(
    entries: Sequence[Entry],
    victim: Victim,
    presumed: Any,
    classes: int,
    image_shape: tuple[int, int, int],
    *,
    outliers: Any = None,
) -> None:
    """Make every defense once without training anything, so that what cannot be made is refused before long work.

    Args:
        entries: to be made.
        victim: its parameters may be untrained.
        presumed: the architecture that the defender presumes of attackers.
        classes: K.
        image_shape: (H, W, C).
        outliers: images of another distribution that the defender owns.

    Raises:
        ValueError: naming the entry, and what is wrong with it.
    """
    images = None if victim.images is None else victim.images[:8]
    labels = None if victim.labels is None else victim.labels[:8]
    key = jax.random.key(0)
    defender = Defender(
        victim.network, victim.params, images, labels, victim.recipe, classes, image_shape, presumed, key,
        outliers=outliers, rehearsal=True,
    )  # fmt: skip
    for entry in entries:
        entry.make(defender)


def title(setup: Setup) -> str:
    """Victim, pool, network and queries in words."""
    queries = f"{setup.budget:,} queries".replace(",", " ")
    return f"{setup.victim.name} ← {setup.pool.name}, {model_name(setup.network)}, {queries}"


def _row(item: Equalized, found: Mapping[str, Sequence[Any]]) -> Row:
    """What came of an entry, from its records by attacker."""
    first = next(iter(found.values()))
    attacks = {name: [100 * r.result["attacker_accuracy"] for r in several] for name, several in found.items()}
    best = max(attacks, key=lambda name: sum(attacks[name]))
    text = item.entry.text()
    return Row(
        f"{text} ({item.note})" if item.note else text,
        item,
        attacks,
        [100 * record.result["defender_accuracy"] for record in first],
        [record.result["query_l1"]["mean"] for record in first],
        [100 * record.result["fidelity"] for record in found[best]],
        100 * first[0].result["chance"],
        [record for several in found.values() for record in several],
    )
