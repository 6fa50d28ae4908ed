"""Result records: one JSON file a cell, named by the hash of the cell's configuration.

A sweep computes its cells through `once`, so a killed sweep resumes where it stopped and several workers can share one
folder. Tables, plots and reports are made from records alone; ``python -m pp_jax.results`` lists, shows and exports
them.
"""

from pp_jax.results.records.canonical import key
from pp_jax.results.records.claims import claim, once
from pp_jax.results.records.provenance import environment
from pp_jax.results.records.record import (
    SCHEMA,
    Damaged,
    Record,
    check_writable,
    discard,
    find,
    load,
    load_all,
    scan,
    write,
)

__all__ = [
    "SCHEMA",
    "Damaged",
    "Record",
    "check_writable",
    "claim",
    "discard",
    "environment",
    "find",
    "key",
    "load",
    "load_all",
    "once",
    "scan",
    "write",
]
