# ruff: noqa: F401
"""Steal machine-learning models through their prediction API, and make that fail, in pure JAX.

`perturb(MAD(surrogate, params, epsilon), probs, images)` answers a batch of predictions so that whoever trains on the
answers learns little; `attacks.collect` is the thief, `BlackBox` the API between them, `metrics` the judge.
Submodules are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pp_jax._version import __version__

if TYPE_CHECKING:  # what `__getattr__` finds, for type checkers
    from pp_jax import (
        attacks,
        augmentation,
        blackbox,
        calibration,
        checkpoints,
        data,
        defenses,
        distance,
        gram,
        metrics,
        models,
        novelty,
        objective,
        oracle,
        parallel,
        plots,
        records,
        report,
        simplex,
        solvers,
        stream,
        sweep,
        training,
        types,
    )
    from pp_jax.blackbox import BlackBox
    from pp_jax.defenses import MAD, RandomNoise, ReverseSigmoid, Rounding, Top1, TopK, chain
    from pp_jax.perturbation import perturb

_MODULES = (
    "attacks",
    "augmentation",
    "blackbox",
    "calibration",
    "checkpoints",
    "data",
    "defenses",
    "distance",
    "gram",
    "metrics",
    "models",
    "novelty",
    "objective",
    "oracle",
    "parallel",
    "plots",
    "records",
    "report",
    "simplex",
    "solvers",
    "stream",
    "sweep",
    "training",
    "types",
)
_NAMES = {
    "BlackBox": "blackbox",
    "MAD": "defenses",
    "RandomNoise": "defenses",
    "ReverseSigmoid": "defenses",
    "Rounding": "defenses",
    "Top1": "defenses",
    "TopK": "defenses",
    "chain": "defenses",
    "perturb": "perturbation",
}

__all__ = ["__version__", *_MODULES, *_NAMES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name in _MODULES:
        return importlib.import_module(f"pp_jax.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"pp_jax.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'pp_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return __all__
