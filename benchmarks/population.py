"""64 small networks with attributes of their own: trained as one program, and one after another.

    python benchmarks/population.py     # about a minute on 2 CPU cores

What `attacks.structural.train_population` trains for a classifier of attributes: 40 steps of at most 64 images of
noise, 14×14. One program must be 10 × faster on an accelerator; on a CPU, which computes the same either way, the
ratio is for information.
"""

from typing import Any

import jax
import numpy as np

from harness import Row, paired, report, row
from pp_jax.attacks.structural import train_population
from pp_jax.attacks.structural.population import drawn


def rows(repeats: int = 3, networks: int = 64, steps: int = 40) -> list[Row]:
    """Time of networks one after another over that of all together."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (2000, 14, 14, 1)).astype(np.uint8), rng.integers(0, 10, 2000)
    keys, attributes = jax.random.split(jax.random.key(0), networks), drawn(jax.random.key(1), networks)

    def together() -> Any:
        return train_population(keys[0], images, labels, networks, steps=steps, attributes=attributes).params

    def alone() -> Any:
        own = [{name: of[number : number + 1] for name, of in attributes.items()} for number in range(networks)]
        return [
            train_population(key, images, labels, 1, steps=steps, attributes=one).params
            for key, one in zip(keys, own, strict=True)
        ]

    times = paired({"alone": alone, "together": together}, repeats=repeats)
    bound = 10 if jax.default_backend() != "cpu" else 0
    details: dict[str, Any] = {side: times.milliseconds(side, per=networks) for side in times.wall}
    details |= {"device": jax.devices()[0].device_kind, "steps": steps, "repeats": repeats}
    name = f"one after another / one program, {networks} networks of attributes"
    return [row(name, times.ratio("alone", "together"), bound, sense=">=", details=details)]


if __name__ == "__main__":
    report(rows())
