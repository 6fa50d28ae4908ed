"""Child process of test_hosts: one of two hosts of two devices; prints how far its answers are from one device's.

python hosts.py PORT PROCESS
"""

import json
import sys

import jax
import numpy as np

from pp_jax import MAD, BlackBox, RandomNoise, chain, parallel, perturb, stream
from support import linear_logits, linear_params

CLASSES, SIDE, COUNT = 10, 8, 45
KEY = jax.random.key


def queries():
    """Posteriors (B, K) and images (B, H, W, C), the same on every host."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(CLASSES), COUNT).astype(np.float32)
    return probs, rng.integers(0, 256, (COUNT, SIDE, SIDE, 1)).astype(np.uint8)


def apart(answers, expected):
    """The largest difference."""
    answers, expected = np.asarray(answers), np.asarray(expected)
    assert answers.shape == expected.shape, (answers.shape, expected.shape)
    return float(np.abs(answers - expected).max())


def together(defense, probs, images, key):
    """`perturb` over the devices of both hosts, each of which brings 8 rows of its own."""
    mesh = parallel.data_mesh()
    start = 8 * jax.process_index()
    mine = slice(start, start + 8)
    defense_there = parallel.place(defense, mesh)
    rows = parallel.from_hosts(mesh, (probs[mine], images[mine]))
    answers = perturb(defense_there, *rows, key=key, mesh=mesh)
    return parallel.to_host(answers), mine


def spoilt(defense, probs, images):
    """What every host is told of a bad row of one host."""
    mesh = parallel.data_mesh()
    bad = probs[:8] * (1 + jax.process_index())
    try:
        perturb(parallel.place(defense, mesh), *parallel.from_hosts(mesh, (bad, images[:8])), mesh=mesh)
    except ValueError as error:
        return str(error)
    return "nothing"


def refused(defense, probs, images):
    """What a stream over both hosts' devices is told."""
    try:
        stream.perturb(defense, (probs, images), batch_size=8, mesh=parallel.data_mesh())
    except ValueError as error:
        return str(error)
    return "nothing"


def main(port, process):
    """Everything as JSON."""
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=process, initialization_timeout=60)
    key = KEY(3)
    probs, images = queries()
    params = linear_params(KEY(0), SIDE * SIDE, CLASSES, scale=0.1)
    defense = chain(MAD(linear_logits, params, 0.5), RandomNoise(0.5))
    expected = np.asarray(perturb(defense, probs, images, key=key))

    answers, mine = together(defense, probs, images, key)
    box = parallel.place(BlackBox(linear_logits, params, defense, key, mesh=parallel.data_mesh()), parallel.data_mesh())
    boxed, audit = box(parallel.from_hosts(parallel.data_mesh(), images[mine]))
    alone, audit_alone = BlackBox(linear_logits, params, defense, key)(images)

    # 22 and 23 rows in batches of 4: the hosts never wait for each other.
    own, local = parallel.share(COUNT), parallel.data_mesh(devices=jax.local_devices())
    parts = list(stream.perturb(defense, (probs[own], images[own]), key=key, batch_size=4, mesh=local))
    result = {
        "devices": [len(jax.devices()), len(jax.local_devices())],
        "own": [own.start, own.stop],
        "perturb": apart(answers, expected[mine]),
        "black_box": apart(parallel.to_host(boxed), alone[mine]),
        "audit": apart(parallel.to_host(audit.probs), audit_alone.probs[mine]),
        "stream": apart(np.concatenate(parts), expected[own]),
        "spoilt": spoilt(chain(), probs, images),
        "refused": refused(chain(), probs, images),
    }
    print(json.dumps(result))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
