"""Child process of test_sweep: a sweep spread over four devices; prints how far it is from one device's."""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from pp_jax import parallel, sweep, training
from support import Linear

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))
import test_sweep


def main():
    """Five thefts do not divide by four: the last part is filled up."""
    mesh = parallel.data_mesh()
    arguments = (test_sweep.thefts()[:5], Linear(test_sweep.CLASSES), test_sweep.POOL, test_sweep.RECIPE)
    spread = list(sweep.run(*arguments, budget=test_sweep.BUDGET, mesh=mesh))
    alone = list(sweep.run(*arguments, budget=test_sweep.BUDGET, way="loop"))
    differences = jax.tree.map(
        lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max()),
        [s.params for s in spread],
        [s.params for s in alone],
    )
    sets, keys = test_sweep._sets(4), jax.random.split(jax.random.key(0), 4)
    params = training.fit_many(keys, Linear(3), sets, test_sweep.RECIPE, mesh=mesh)
    refused = None
    try:
        training.fit_many(keys[:3], Linear(3), test_sweep._sets(3), test_sweep.RECIPE, mesh=mesh)
    except ValueError as error:
        refused = str(error)
    devices = len(jax.tree.leaves(params)[0].sharding.device_set)
    print(json.dumps({"apart": max(jax.tree.leaves(differences)), "devices": devices, "refused": refused}))


if __name__ == "__main__":
    main()
