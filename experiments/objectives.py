"""Which poison harms a student most, at equal budget? Nine rules, two budgets, three seeds.

    python -m experiments.objectives                       # MNIST ← notMNIST; hours on 2 CPU cores
    python -m experiments.objectives --attackers plain 'hard label' --seeds 0      # about 30 minutes

Prints and writes what `tradeoff.py` does, into `runs/objectives`: the angle that each rule reaches on the queries, how
far it moves them, and the accuracy of the plain attacker beside the worst case. docs/theory.md says what that means.
Expected at ε = 0.99: MAD holds the plain attacker at 55 %, a random class at 76 %. A killed run goes on where it
stopped.
"""

import dataclasses
from typing import Any

import tyro

from experiments import common, plot
from experiments.common import AttackOptions
from pp_jax._command import command


def rules(epsilon: float) -> list[Any]:
    """The nine rules at one budget."""
    from pp_jax import MAD, Entry, gram, oracle, solvers

    def mad(label: str, solver: Any) -> Any:
        return Entry(MAD, label=label, epsilon=epsilon, solver=solver)

    def towards(label: str, target: Any) -> Any:
        """A rule that asks nothing of a surrogate."""
        return Entry(MAD, label=label, epsilon=epsilon, solver=solvers.LineSearch(target), gram=gram.identity)

    vertex = oracle.declare(keeps_argmax=False, random=False, vertex=True)
    return [
        Entry(MAD, epsilon=epsilon),
        mad("MAD, vertex after interpolation", solvers.LineSearch(interpolate_first=True)),
        mad("MAD, exact optimum", solvers.MaxAngle()),
        mad("minimum inner product", solvers.MinInner()),
        towards("least likely class", oracle.least_likely),
        towards("next class", vertex(next_class)),
        towards("constant class", vertex(constant_class)),
        towards("random class", oracle.random_vertex),
        towards("second likeliest class", vertex(second_likeliest)),
    ]


def next_class(probs: Any, gram: Any, *, objective: Any, key: Any) -> Any:
    """The class after the top class: one fixed permutation of the classes."""
    import jax
    import jax.numpy as jnp

    del gram, objective, key
    classes = probs.shape[-1]
    return jax.nn.one_hot((jnp.argmax(probs) + 1) % classes, classes, dtype=probs.dtype)


def constant_class(probs: Any, gram: Any, *, objective: Any, key: Any) -> Any:
    """Class 0, whatever was queried; class 1 for images of class 0 itself."""
    import jax
    import jax.numpy as jnp

    del gram, objective, key
    return jax.nn.one_hot(jnp.where(jnp.argmax(probs) == 0, 1, 0), probs.shape[-1], dtype=probs.dtype)


def second_likeliest(probs: Any, gram: Any, *, objective: Any, key: Any) -> Any:
    """The runner-up."""
    import jax

    del gram, objective, key
    _, order = jax.lax.top_k(probs, 2)
    return jax.nn.one_hot(order[1], probs.shape[-1], dtype=probs.dtype)


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Rules × budgets × attackers × seeds."""

    attack: AttackOptions = dataclasses.field(default_factory=lambda: AttackOptions(pool="notmnist"))
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each repeats every attack with other queries, another surrogate and another key; the victim stays."""
    epsilons: tuple[float, ...] = (0.5, 0.99)
    """L1 budgets."""
    attackers: tuple[str, ...] = ("quick",)
    """`standard`, `quick`, single members by name, or yours, as in mine.py:MINE."""
    folder: str = "objectives"
    """Where below `runs` the records and the table go."""


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    drawing = plot.Config(config.runs / config.folder)
    with common.errors():
        plot.check(drawing)
        rows = [rule for epsilon in config.epsilons for rule in rules(epsilon)]
        config.evaluate(rows, common.attacker_set(config.attackers), config.folder)
        paths = plot.draw(drawing)
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
