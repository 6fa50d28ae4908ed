"""The runs of a plan: sweeps that are fitted, and checks that are predicted before they are measured."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import scaling_stages as stages
from pp_jax import oracle
from scaling_plan import Plan
from scaling_stages import Architecture, Case, Job

STREAM_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Runs that differ in one variable (`variable`, a field of `Size`), or that only the rates are fitted to."""

    name: str
    variable: str | None
    jobs: Callable[[], Sequence[Job]]
    repeats: int


@dataclasses.dataclass(frozen=True)
class Check:
    """A run larger than all that the fit has seen: what the model says, and how to find out."""

    name: str
    predict: Callable[[Any], float]
    job: Callable[[], Job]
    repeats: int
    warmup: int = 1


def sweeps(plan: Plan) -> list[Sweep]:
    """Everything that is fitted."""
    found = [*_over_batches(plan), *_over_classes(plan), *_over_networks(plan), *_over_queries(plan)]
    return [sweep for sweep in found if plan.only is None or sweep.name in plan.only]


def _over(name: str, variable: str | None, build: Callable[[Case], Job], cases: Sequence[Case], repeats: int) -> Sweep:
    """A sweep of one stage over cases."""
    return Sweep(name, variable, lambda: [build(case) for case in cases], repeats)


def _over_batches(plan: Plan) -> list[Sweep]:
    """Every stage against the batch; the Gram matrix over all layers up to 64 images."""
    cases = [Case(plan.base, 10, batch) for batch in plan.batches]
    few = [case for case in cases if case.batch <= 64]
    many = [Case(plan.base, 100, batch) for batch in plan.batches]
    return [
        _over("forward, batch", "batch", stages.forward, cases, plan.repeats),
        _over("last-layer Gram, batch", "batch", stages.last_layer, cases, plan.repeats),
        _over("all-layers Gram, batch", "batch", stages.all_layers, few, plan.repeats),
        _over("solver extreme, batch", "batch", _extreme, many, plan.repeats),
        _over("solver argmax_preserving, batch", "batch", _argmax_preserving, many, plan.repeats),
        _over("MAD query, batch", "batch", stages.query, cases, plan.repeats),
        _over("training step, batch", "batch", stages.training, cases, plan.repeats),
    ]


def _extreme(case: Case) -> Job:
    """The paper's solver."""
    return stages.solver(case, oracle.extreme)


def _argmax_preserving(case: Case) -> Job:
    """Its variant that keeps the top class."""
    return stages.solver(case, oracle.argmax_preserving)


def _over_classes(plan: Plan) -> list[Sweep]:
    """Every stage against K."""
    cases = [Case(plan.base, classes, plan.fixed_batch) for classes in plan.classes]
    few = [Case(plan.base, classes, 4) for classes in plan.classes if classes <= 300]
    extreme, argmax = (
        [Case(plan.base, classes, plan.solver_batch) for classes in numbers]
        for numbers in (plan.classes, plan.solver_classes)
    )
    return [
        _over("forward, classes", "classes", stages.forward, cases, plan.repeats),
        _over("last-layer Gram, classes", "classes", stages.last_layer, cases, plan.repeats),
        _over("all-layers Gram, classes", "classes", stages.all_layers, few, plan.repeats),
        _over("solver extreme, classes", "classes", _extreme, extreme, plan.repeats),
        _over("solver argmax_preserving, classes", "classes", _argmax_preserving, argmax, plan.repeats),
        _over("MAD query, classes", "classes", stages.query, cases, plan.repeats),
        _over("training step, classes", "classes", stages.training, cases, plan.repeats),
    ]


def _over_networks(plan: Plan) -> list[Sweep]:
    """Stages against operations, at one batch; and the grids that rates are fitted to."""
    cases = [Case(network, 10, plan.fixed_flops_batch) for network in plan.networks]
    exact = [Case(network, 10, 4) for network in plan.exact]
    repeats = min(plan.repeats, 3)
    forward, training = (
        [Case(network, 100, batch) for network in plan.convolutional for batch in batches]
        + [Case(network, 100, batch) for network in plan.large for batch in large]
        for batches, large in (
            (plan.forward_batches, plan.large_forward_batches),
            (plan.training_batches, plan.large_training_batches),
        )
    )
    return [
        _over("forward, flops", "flops", stages.forward, cases, repeats),
        _over("MAD query, flops", "flops", stages.query, cases, repeats),
        _over("training step, flops", "flops", stages.training, cases, repeats),
        _over("all-layers Gram, flops", "flops", stages.all_layers, exact, repeats),
        _over("forward, networks and batches", None, stages.forward, forward, repeats),
        _over("training step, networks and batches", None, stages.training, training, repeats),
    ]


def _over_queries(plan: Plan) -> list[Sweep]:
    """Streams against their length."""

    def jobs(network: Architecture) -> Callable[[], Sequence[Job]]:
        return lambda: [stages.streamed(Case(network, 10, STREAM_BATCH), length) for length in plan.lengths]

    return [
        Sweep(f"stream {network.name}, queries", "queries", jobs(network), min(plan.repeats, 3))
        for network in plan.streamed
    ]


def _thunk(build: Callable[..., Job], *args: Any) -> Callable[[], Job]:
    """Build later: a large network is there only while it is measured."""
    return lambda: build(*args)


def _named(what: str, case: Case) -> str:
    """How a check is called."""
    return f"{what}, {case.architecture.name}, K = {case.classes}, batch {case.batch}"


def checks(plan: Plan) -> list[Check]:
    """Everything that is predicted before it is measured."""

    def length(network: Architecture) -> Callable[[Any], float]:
        return lambda model: model.laws[f"stream {network.name}, queries"](plan.long)

    def of_query(case: Case) -> Callable[[Any], float]:
        return lambda model: model.query(case)

    def of_step(case: Case) -> Callable[[Any], float]:
        return lambda model: model.step(case)

    return [
        *(Check(_named("MAD query", c), of_query(c), _thunk(stages.query, c), 3) for c in plan.larger_queries),
        *(Check(_named("training step", c), of_step(c), _thunk(stages.training, c), 2) for c in plan.larger_steps),
        *(
            Check(
                f"stream of {plan.long:,} queries, {network.name}, K = 10",
                length(network),
                _thunk(stages.streamed, Case(network, 10, STREAM_BATCH), plan.long),
                1,
                warmup=0,
            )
            for network in plan.streamed
        ),
    ]
