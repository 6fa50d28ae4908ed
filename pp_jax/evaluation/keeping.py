"""Stolen models that are kept beside their records, for whoever wants to do more with them than judge them once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from pp_jax.evaluation.setups import Setup
from pp_jax.results import checkpoints, records
from pp_jax.training import FirstClasses


def check_keepable(setup: Setup) -> None:
    """Refuse an attacker's network whose parameters have no place in a file, before anything is queried.

    Raises:
        ValueError: naming their type.
    """
    params = jax.eval_shape(lambda: setup.network.init(jax.random.key(0), setup.image_shape))
    if not isinstance(params, Mapping):
        raise ValueError(
            f"network has parameters of type {type(params).__name__}: must be nested dicts to be kept (keep_models)"
        )


def save(folder: Path, config: Mapping[str, Any], params: Any, *, extra_outputs: int) -> Path:
    """Write the parameters of a run's stolen model to `<key(config)>.safetensors`, beside its record-to-be."""
    path = folder / f"{records.key(config)}.safetensors"
    return checkpoints.save(path, params, metadata={"extra_outputs": extra_outputs})


def stolen_model(record: records.Record, network: Any) -> tuple[Any, Any]:
    """The model that a run stole: network and parameters, as `evaluate(..., keep_models=True)` kept them.

    Args:
        record: of the run: `row.records` of a report, or `records.load(path)`.
        network: the attacker's architecture, as `evaluate` was given it.

    Returns:
        A logits function, which is `network` unless the attacker trained outputs beside the classes, and its
        parameters.

    Raises:
        ValueError: for a run whose model was not kept or has been deleted, or a file that is damaged.
    """
    path = record.path.with_suffix(".safetensors")
    if record.config.get("stolen_model") != "kept":
        raise ValueError(f"the stolen model of {record.path} was not kept: evaluate(..., keep_models=True) keeps it")
    if not path.exists():
        raise ValueError(f"{path} is missing: delete {record.path} as well, and evaluate again")
    params, metadata = checkpoints.load(path)
    classes = round(1 / record.result["chance"])
    if extra := metadata["extra_outputs"]:
        network = FirstClasses(network.with_outputs(classes + extra), classes)
    return network, params
