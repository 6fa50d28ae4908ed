# ruff: noqa: F401
"""Steal machine-learning models through their prediction API, and make that fail, in pure JAX.

`perturb(MAD(network, surrogate, epsilon), probs, images)` perturbs a batch of posteriors so that whoever trains on the
responses learns little. `BlackBox` is the prediction API, `attacks.collect` queries it, and `evaluate` takes a defense
through every attacker that applies and reports the worst case; `metrics` says what stealing gained and defending cost.
Submodules are imported when they are first used.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
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
        ownership,
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
    from pp_jax.serving import blackbox, perturbation, stream
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
    "ownership": "ownership",
    "parallel": "parallel",
    "perturbation": "serving.perturbation",
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


class _Elsewhere(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets public modules be imported by their public names: `from pp_jax.metrics import accuracy`."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Where a public module is, if it is not where its name says."""
        del path, target
        package, _, public = name.partition(".")
        if package != __name__ or _MODULES.get(public, public) == public:
            return None
        there = importlib.import_module(f"{__name__}.{_MODULES[public]}")
        spec = importlib.machinery.ModuleSpec(name, self, is_package=hasattr(there, "__path__"))
        spec.submodule_search_locations = list(there.__path__) if hasattr(there, "__path__") else None
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module itself, under its second name too."""
        there = importlib.import_module(f"{__name__}.{_MODULES[spec.name.partition('.')[2]]}")
        spec.loader_state = there.__spec__
        return there

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it was imported under its own name, which it keeps."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


if not any(isinstance(finder, _Elsewhere) for finder in sys.meta_path):
    sys.meta_path.append(_Elsewhere())


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
