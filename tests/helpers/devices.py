"""Child process of test_devices: the same queries on meshes of several sizes; prints how far the answers are apart.

python devices.py quick|full
"""

import functools
import json
import sys

import jax
import numpy as np

from pp_jax import MAD, BlackBox, RandomNoise, chain, gram, models, parallel, perturb, stream
from support import Counted, linear_logits, linear_params

SIDE, KEY = 16, jax.random.key(5)
SHAPE = (SIDE, SIDE, 1)


def queries(count, classes):
    """Posteriors (B, K) and images (B, H, W, C) on the host."""
    rng = np.random.default_rng(count)
    probs = rng.dirichlet(np.ones(classes), count).astype(np.float32)
    return probs, rng.integers(0, 256, (count, *SHAPE)).astype(np.uint8)


@functools.cache
def defenses(classes):
    """Every kind of defense, by name."""
    params = linear_params(jax.random.key(0), SIDE * SIDE, classes, scale=0.05)
    found = {
        "MAD": MAD(linear_logits, params, 0.9),
        "MAD-argmax": MAD.argmax_preserving(linear_logits, params, 0.9),
        "noise": RandomNoise(1.0),
        "chain": chain(MAD(linear_logits, params, 0.5), RandomNoise(1.0)),
    }
    if classes == 10:
        network = models.mlp(classes, hidden=(32,))
        weights = jax.jit(network.init, static_argnums=1)(jax.random.key(1), SHAPE)
        found["all_layers"] = MAD(network, weights, 0.9, gram=gram.all_layers)
    return found


def apart(answers, expected):
    """The largest difference; infinite if one is missing or not a number."""
    answers, expected = np.asarray(answers), np.asarray(expected)
    return float(np.abs(answers - expected).max()) if answers.shape == expected.shape else float("inf")


@functools.cache
def alone(name, classes, count, batch_size):
    """The answers of one device."""
    return np.asarray(perturb(defenses(classes)[name], *queries(count, classes), key=KEY, batch_size=batch_size))


def compared(name, classes, count, devices, *, model=1, batch_size=None):
    """A mesh against one device."""
    mesh = parallel.data_mesh(devices=jax.devices()[:devices], model=model)
    defense = defenses(classes)[name]
    if model > 1:
        defense = MAD.argmax_preserving(parallel.Gathered(linear_logits), defense.surrogate, 0.9)
    rule = parallel.over_model(mesh, at_least=1000)
    defense = parallel.place(defense, mesh, rule=rule)
    answers = perturb(defense, *queries(count, classes), key=KEY, batch_size=batch_size, mesh=mesh)
    case = {"defense": name, "classes": classes, "count": count, "devices": devices, "model": model}
    found = {
        "batch_size": batch_size,
        "apart": apart(answers, alone(name, classes, count, batch_size)),
        "spread": len(answers.sharding.device_set),
        "cut": any(a.sharding.shard_shape(a.shape) != a.shape for a in jax.tree.leaves(defense)),
    }
    return case | found


def black_box(devices):
    """A black box on a mesh, and a stream through it, against one device."""
    classes = 10
    params = linear_params(jax.random.key(2), SIDE * SIDE, classes, scale=0.05)
    box = BlackBox(linear_logits, params, defenses(classes)["chain"], KEY)
    _, images = queries(30, classes)
    mesh = parallel.data_mesh(devices=jax.devices()[:devices])
    spread = parallel.place(BlackBox(linear_logits, params, box.defense, KEY, mesh=mesh), mesh)
    answers, audit = box(images)
    on_mesh, audit_on_mesh = spread(images)
    parts = list(stream.ask(spread, images, batch_size=8))
    return {
        "devices": devices,
        "apart": apart(on_mesh, answers),
        "audit_apart": apart(audit_on_mesh.probs, audit.probs),
        "stream_apart": apart(np.concatenate([part for part, _ in parts]), answers),
    }


def streamed(devices):
    """A stream of posteriors on a mesh against one device."""
    mesh = parallel.data_mesh(devices=jax.devices()[:devices])
    answers = stream.perturb(defenses(10)["MAD"], queries(61, 10), batch_size=16, mesh=mesh)
    return {"devices": devices, "apart": apart(np.concatenate(list(answers)), alone("MAD", 10, 61, None))}


def refused(mesh):
    """What a stream says of a batch size that 8 devices cannot share."""
    try:
        stream.perturb(defenses(10)["MAD"], queries(61, 10), batch_size=12, mesh=mesh)
    except ValueError as error:
        return str(error)
    return "nothing"


def traces():
    """How often a network is traced for a stream on eight devices whose batches come in several lengths."""
    surrogate = Counted(linear_logits)
    defense = MAD(surrogate, defenses(10)["MAD"].surrogate, 0.9)
    probs, images = queries(61, 10)
    source = [(probs[:5], images[:5]), (probs[5:], images[5:])]
    list(stream.perturb(defense, source, batch_size=16, mesh=parallel.data_mesh()))
    return surrogate.traces


def cases(full):
    """What is compared; the full grid or its corners."""
    several = (2, 4, 8) if full else (8,)
    kinds = {10: ("MAD", "chain"), 100: ("MAD-argmax",)}
    if full:
        kinds = {10: ("MAD", "MAD-argmax", "noise", "chain", "all_layers"), 100: ("MAD", "MAD-argmax")}
    whole = [("MAD", 10, devices) for devices in (1, 2, 4, 8)]
    whole += [(name, classes, devices) for classes in kinds for name in kinds[classes] for devices in several]
    found = [compared(name, classes, 64, devices) for name, classes, devices in dict.fromkeys(whole)]
    uneven = [(count, n) for count in (13, 3, 1) for n in several] if full else [(13, 4), (3, 8)]
    found += [compared("MAD", 10, count, devices) for count, devices in uneven]
    found += [compared("MAD-argmax", 10, 64, devices, batch_size=4) for devices in several]
    found += [compared("MAD-argmax", 100, 64, devices, model=2) for devices in several]
    return found


def main(full):
    """All comparisons as JSON."""
    result = {
        "cases": cases(full),
        "black_boxes": [black_box(devices) for devices in ((2, 4, 8) if full else (8,))],
        "streams": [streamed(devices) for devices in ((2, 4, 8) if full else (8,))],
        "refused": refused(parallel.data_mesh()),
        "traces": traces(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(full=sys.argv[1] == "full")
