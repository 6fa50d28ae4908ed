"""Gram matrices over all parameters: layer by layer against the Jacobian, and the memory of a large network.

    python benchmarks/gram.py        # about 2 minutes on 2 idle cores

Expected: LeNet, K = 10, batch 32: 30 × faster than vmapped `jacrev` on the same batch or better; VGG16-BN, K = 100,
batch 16: peak memory of the process at most 4 GiB. Seeds are 0 and 1.
"""

import functools
import resource
import subprocess
import sys
import time

import harness

BATCH = 32
REPEATS = 7


def rows() -> list[harness.Row]:
    """The lines of the table."""
    return [speed(), memory()]


def speed() -> harness.Row:
    """`all_layers` against `jacobian` for LeNet, by turns in one process."""
    import jax
    import numpy as np

    from pp_jax import gram, models

    network = models.lenet(10)
    params = network.init(jax.random.key(0), (28, 28, 1))
    images = jax.random.uniform(jax.random.key(1), (BATCH, 28, 28, 1))
    compiled = {
        function.__name__: jax.jit(jax.vmap(functools.partial(function, network, params)))
        for function in (gram.all_layers, gram.jacobian)
    }
    layerwise, reference = (function(images) for function in compiled.values())
    times = harness.paired({name: functools.partial(f, images) for name, f in compiled.items()}, repeats=REPEATS)
    details = {name: times.milliseconds(name, per=BATCH) for name in compiled} | {
        "cpu_ratio": times.cpu_ratio("jacobian", "all_layers"),
        "ratio_of_minima": times.minimum("jacobian") / times.minimum("all_layers"),
        "relative_difference": float(np.abs(layerwise - reference).max() / np.abs(reference).max()),
    }
    ratio = times.ratio("jacobian", "all_layers")
    name = f"all_layers, LeNet, K = 10, batch {BATCH}: times faster than vmapped jacrev"
    return harness.row(name, ratio, 30, sense=">=", details=details)


def memory() -> harness.Row:
    """Peak resident memory (GiB) of a fresh process: `all_layers`, VGG16-BN, K = 100, a batch of 16."""
    run = subprocess.run([sys.executable, __file__, "--vgg"], check=True, capture_output=True, text=True)
    peak, seconds = map(float, run.stdout.split())
    name = "all_layers, VGG16-BN, K = 100, batch 16: peak memory of the process in GiB"
    return harness.row(name, peak, 4, details={"ms_a_query": 1e3 * seconds / 16})


def vgg() -> tuple[float, float]:
    """Peak resident memory of this process in GiB, and seconds of one call after compilation."""
    import jax

    from pp_jax import gram, models

    network = models.vgg16_bn(100)
    params = network.init(jax.random.key(0), (32, 32, 3))
    images = jax.random.uniform(jax.random.key(1), (16, 32, 32, 3))
    batched = jax.jit(jax.vmap(functools.partial(gram.all_layers, network), in_axes=(None, 0)))
    compiled = batched.lower(params, images).compile()
    start = time.perf_counter()
    jax.block_until_ready(compiled(params, images))
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, seconds


def main() -> None:
    """Print the table, or what the memory measurement needs of a process of its own."""
    if sys.argv[1:] == ["--vgg"]:
        print(*vgg())
        return
    harness.report(rows())


if __name__ == "__main__":
    main()
