"""Child process of test_stream: answers a stream from memory maps, prints how far its resident memory grew.

python consume.py FOLDER CLASSES
"""

import json
import pathlib
import sys

import jax
import numpy as np

from pp_jax import MAD, models, stream
from support import Counted


def peak():
    """The largest resident memory of this process so far, bytes."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main(folder, classes):
    """Stream what lies in `folder` through MAD into answers.npy."""
    probs, images = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("probs", "images"))
    network = models.mlp(classes, hidden=(16,))
    surrogate = Counted(network)
    defense = MAD(surrogate, network.init(jax.random.key(0), images.shape[1:]), 0.5)
    before = peak()
    out = np.lib.format.open_memmap(folder / "answers.npy", "w+", np.float32, probs.shape)
    stream.write(stream.perturb(defense, (probs, images)), out)
    print(json.dumps({"grown": peak() - before, "traces": surrogate.traces}))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
