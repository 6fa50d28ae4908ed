"""What MAD costs: over the forward passes it needs, and against the published per-query algorithm in PyTorch.

    python benchmarks/mad.py        # about 2 minutes on 2 idle cores; needs pip install 'pp-jax[bench]'

Victim and surrogate are untrained networks of the same architecture. The overhead of a defense is the time of the black
box that has it, less that of the two forward passes alone (one compiled program), in units of the latter. A speed-up is
the reference's time a query divided by ours, forward passes included on both sides, with the same weights and images,
from the least time of each: the reference suffers more than we do when the machine is busy.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness import Row, Times, paired, report, row, threads, torch_reference
from pp_jax import MAD, BlackBox, models, oracle, simplex
from pp_jax.geometry.distance import L1
from pp_jax.geometry.posteriors import posterior
from pp_jax.gram import LastLayer
from pp_jax.models import Network
from pp_jax.solvers.exact import exact
from pp_jax.solvers.heuristic import LineSearch

EPSILON = 0.9
ORACLES = {"extreme": oracle.extreme, "argmax_preserving": oracle.argmax_preserving}
Thunk = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Setting:
    """A victim, a surrogate and a batch of queries.

    Attributes:
        label: how rows are named.
        network: the architecture of both.
        victim: its parameters.
        surrogate: those of the surrogate.
        images: (B, H, W, C).
    """

    label: str
    network: Network
    victim: Any
    surrogate: Any
    images: jax.Array

    def forwards(self) -> Thunk:
        """The two forward passes alone, as posteriors: what no defense with a surrogate can do without."""

        @jax.jit
        def both(victim: Any, surrogate: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
            def one(image: jax.Array) -> tuple[jax.Array, jax.Array]:
                return posterior(self.network, victim, image), posterior(self.network, surrogate, image)

            return jax.vmap(one)(images)

        return lambda: both(self.victim, self.surrogate, self.images)

    def defended(self, name: str) -> Thunk:
        """The black box with MAD and the oracle `name`."""
        defense = MAD(self.network, self.surrogate, EPSILON, solver=LineSearch(ORACLES[name]))
        box = BlackBox(self.network, self.victim, defense)
        return lambda: box(self.images)

    def arithmetic(self, name: str) -> Thunk:
        """Only what follows the two forward passes: Gram matrix, oracle, line search, feasibility."""
        probs, surrogate = self.forwards()()
        return _solver_alone(LineSearch(ORACLES[name]), probs, surrogate)


def setting(label: str, network: Network, shape: tuple[int, int, int], batch: int) -> Setting:
    """Untrained networks and uniform noise for images: the time does not depend on them."""
    victim_key, surrogate_key, image_key = jax.random.split(jax.random.key(0), 3)
    init = jax.jit(network.init, static_argnums=1)
    images = jax.random.uniform(image_key, (batch, *shape))
    return Setting(label, network, init(victim_key, shape), init(surrogate_key, shape), images)


def overhead_rows(case: Setting, bounds: dict[str, float], *, repeats: int) -> list[Row]:
    """Overhead of each oracle in `bounds` over the two forward passes."""
    functions = {"forwards": case.forwards()} | {name: case.defended(name) for name in bounds}
    times = paired(functions, repeats=repeats)
    alone = paired({name: case.arithmetic(name) for name in bounds}, repeats=3 * repeats)
    return [
        row(
            f"MAD {name} overhead / two forwards, {case.label}, batch {len(case.images)}",
            times.overhead(name, "forwards"),
            bound,
            details={
                "forwards": times.milliseconds("forwards"),
                "defended": times.milliseconds(name),
                "defense_arithmetic_alone": alone.milliseconds(name),
                "arithmetic_alone_over_forwards": alone.median(name) / times.median("forwards"),
                "overhead_of_minima": times.minimum(name) / times.minimum("forwards") - 1,
                "overhead_in_cpu_seconds": times.cpu_ratio(name, "forwards") - 1,
                "repeats": repeats,
            },
        )
        for name, bound in bounds.items()
    ]


def speedup_rows(case: Setting, bounds: dict[str, float], *, queries: int, repeats: int) -> list[Row]:
    """Queries a second against the PyTorch reference, one row for each oracle in `bounds`."""
    ours = {name: case.defended(name) for name in bounds}
    references = {
        (name, count): _reference(case, name, queries, count) for name in bounds for count in sorted({1, threads()})
    }
    labels = {key: f"reference {key[0]}, {key[1]} threads" for key in references}
    times = paired(ours | {labels[key]: function for key, function in references.items()}, repeats=repeats)
    return [
        _speedup_row(case, times, name, [labels[key] for key in references if key[0] == name], bound, queries)
        for name, bound in bounds.items()
    ]


def _speedup_row(case: Setting, times: Times, name: str, references: list[str], bound: float, queries: int) -> Row:
    """One row of `speedup_rows`."""
    reference = min(references, key=times.minimum)
    per_query = len(case.images) / queries
    details = {label: times.milliseconds(label, per=queries) for label in references}
    return row(
        f"PyTorch reference / MAD {name}, a query, {case.label}",
        per_query * times.minimum(reference) / times.minimum(name),
        bound,
        sense=">=",
        details={
            "reference_a_query": details,
            "ours_a_query": times.milliseconds(name, per=len(case.images)),
            "paired_median": per_query * times.ratio(reference, name),
            "batch": len(case.images),
            "reference_queries": queries,
        },
    )


def _reference(case: Setting, name: str, queries: int, thread_count: int) -> Thunk:
    """The reference with the oracle `name` on the first `queries` images, one after the other."""
    reference = torch_reference()
    networks = [reference.twin(case.network, variables) for variables in (case.victim, case.surrogate)]
    pixels = reference.pixels(case.images[:queries])
    oracle_of_reference = getattr(reference, name)

    def answers() -> np.ndarray:
        reference.torch.set_num_threads(thread_count)
        return np.stack(
            [reference.answer(*networks, x, oracle=oracle_of_reference, epsilon=EPSILON).numpy() for x in pixels]
        )

    return answers


def exact_rows(case: Setting, *, repeats: int) -> list[Row]:
    """The global optimum against the solver `extreme`, and against the two forward passes."""
    forwards = case.forwards()
    probs, surrogate = forwards()

    @jax.jit
    def optimum(probs: jax.Array, surrogate: jax.Array, epsilon: jax.Array) -> jax.Array:
        return jax.vmap(lambda y, p: exact(y, LastLayer(p), epsilon=epsilon).answer)(probs, surrogate)

    functions = {
        "extreme": _solver_alone(LineSearch(), probs, surrogate),
        "exact": lambda: optimum(probs, surrogate, jnp.float32(EPSILON)),
        "forwards": forwards,
    }
    times = paired(functions, repeats=repeats)
    details = {name: times.milliseconds(name) for name in functions} | {"repeats": repeats}
    label = f"{case.label}, batch {len(case.images)}"
    return [
        row(f"exact / extreme, solver alone, {label}", times.ratio("exact", "extreme"), 20, details=details),
        row(f"exact, solver alone / two forwards, {label}", times.ratio("exact", "forwards"), 1, details=details),
    ]


def _solver_alone(solver: LineSearch, probs: jax.Array, surrogate: jax.Array) -> Thunk:
    """A solver and the feasibility step, from posteriors y (B, K) and p (B, K)."""

    @jax.jit
    def answers(probs: jax.Array, surrogate: jax.Array, epsilon: jax.Array) -> jax.Array:
        def one(y: jax.Array, p: jax.Array) -> jax.Array:
            y = simplex.working(y)
            answer = solver(y, LastLayer(p), epsilon=epsilon, distance=L1(), key=jax.random.key(0))
            return simplex.feasible(y, answer, epsilon=epsilon, distance=L1(), keep_argmax=solver.keeps_argmax)

        return jax.vmap(one)(probs, surrogate)

    return lambda: answers(probs, surrogate, jnp.float32(EPSILON))


def lenet_rows() -> list[Row]:
    """LeNet, K = 10, batch 256: overhead, speed-up, exact optimum."""
    case = setting("LeNet K=10", models.lenet(10), (28, 28, 1), 256)
    return [
        *overhead_rows(case, {"extreme": 0.10, "argmax_preserving": 0.25}, repeats=40),
        *speedup_rows(case, {"extreme": 35, "argmax_preserving": 150}, queries=8, repeats=10),
        *exact_rows(case, repeats=20),
    ]


def vgg_rows() -> list[Row]:
    """VGG16-BN, batch 64: overhead at K = 100 and 1000, speed-up at K = 100."""
    few, many = (setting(f"VGG16-BN K={k}", models.vgg16_bn(k), (32, 32, 3), 64) for k in (100, 1000))
    return [
        *overhead_rows(few, {"extreme": 0.05, "argmax_preserving": 0.15}, repeats=5),
        *overhead_rows(many, {"extreme": 0.15, "argmax_preserving": 0.50}, repeats=5),
        *speedup_rows(few, {"extreme": 10, "argmax_preserving": 60}, queries=1, repeats=3),
    ]


def rows() -> list[Row]:
    """The whole table."""
    return lenet_rows() + vgg_rows()


if __name__ == "__main__":
    report(rows())
