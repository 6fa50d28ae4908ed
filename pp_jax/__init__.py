# ruff: noqa: F401
"""Steal machine-learning models through their prediction API, and make that fail, in pure JAX.

`perturb(MAD(network, surrogate, epsilon), probs, images)` perturbs a batch of posteriors so that whoever trains on the
responses learns little. `BlackBox` is the prediction API, `attacks.collect` queries it, and `evaluate` takes a defense
through every attacker that applies and reports the worst case; `metrics` says what stealing gained and defending cost.
Submodules are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pp_jax._version import __version__

if TYPE_CHECKING:  # what `__getattr__` finds, for type checkers
    from pp_jax import (
        attacks,
        data,
        defenses,
        detection,
        evaluation,
        geometry,
        gram,
        models,
        parallel,
        recovery,
        results,
        serving,
        solvers,
        training,
        types,
    )
    from pp_jax.defenses import MAD, RandomNoise, ReverseSigmoid, Rounding, Top1, TopK, chain
    from pp_jax.defenses import ood as novelty
    from pp_jax.evaluation import Attacker, Entry, Images, Victim, calibration, evaluate, metrics, sweep
    from pp_jax.geometry import distance, simplex
    from pp_jax.results import checkpoints, plots, records, report
    from pp_jax.serving import blackbox, stream
    from pp_jax.serving.blackbox import BlackBox
    from pp_jax.serving.perturbation import perturb
    from pp_jax.solvers import objective, oracle
    from pp_jax.training import augmentation

# Public modules by the name that users import them by.
_MODULES = {
    "attacks": "attacks",
    "augmentation": "training.augmentation",
    "blackbox": "serving.blackbox",
    "calibration": "evaluation.calibration",
    "checkpoints": "results.checkpoints",
    "data": "data",
    "defenses": "defenses",
    "detection": "detection",
    "distance": "geometry.distance",
    "evaluation": "evaluation",
    "geometry": "geometry",
    "gram": "gram",
    "metrics": "evaluation.metrics",
    "models": "models",
    "novelty": "defenses.ood",
    "objective": "solvers.objective",
    "oracle": "solvers.oracle",
    "parallel": "parallel",
    "plots": "results.plots",
    "records": "results.records",
    "recovery": "recovery",
    "report": "results.report",
    "results": "results",
    "serving": "serving",
    "simplex": "geometry.simplex",
    "solvers": "solvers",
    "stream": "serving.stream",
    "sweep": "evaluation.sweep",
    "training": "training",
    "types": "types",
}
_NAMES = {
    "Attacker": "evaluation",
    "BlackBox": "serving.blackbox",
    "Entry": "evaluation",
    "Images": "evaluation",
    "MAD": "defenses",
    "RandomNoise": "defenses",
    "ReverseSigmoid": "defenses",
    "Rounding": "defenses",
    "Top1": "defenses",
    "TopK": "defenses",
    "Victim": "evaluation",
    "chain": "defenses",
    "evaluate": "evaluation",
    "perturb": "serving.perturbation",
}

__all__ = ["__version__", *_MODULES, *_NAMES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name in _MODULES:
        return importlib.import_module(f"pp_jax.{_MODULES[name]}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"pp_jax.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'pp_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return __all__
