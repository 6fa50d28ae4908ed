"""What `torch.save` writes: two files of its own, and others put together by hand from pickle opcodes and storages."""

import io
import pickle
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np

SAVED = {name: Path(__file__).parent / name for name in ("saved_zip.pt", "saved_old.pt")}
STORAGES = {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long"}


def push(value):
    """Opcodes that push a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def named(module, name):
    """Opcodes that push what a module calls `name`."""
    return f"c{module}\n{name}\n".encode()


def call(function, *arguments):
    """Opcodes that call `function` with arguments, all of them given as opcodes."""
    return function + b"(" + b"".join(arguments) + b"tR"


def storage(key, dtype, length, *, view=()):
    """Opcodes of a persistent storage; old files add (view's key, start, length) or None."""
    kind = named("torch", f"{STORAGES.get(dtype, dtype)}Storage")
    extra = push(view) if view != () else b""
    return b"(" + push("storage") + kind + push(key) + push("cpu") + push(length) + extra + b"tQ"


def tensor(stored, offset, shape, strides):
    """Opcodes of a tensor."""
    hooks = call(named("collections", "OrderedDict"))
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, stored, push(offset), push(shape), push(strides), push(False), hooks)


def mapping(items):
    """Opcodes of an OrderedDict from names to opcodes."""
    pairs = b"".join(push(name) + value for name, value in items.items())
    return call(named("collections", "OrderedDict")) + b"(" + pairs + b"u"


def pickled(code):
    """A whole pickle that leaves what `code` pushes."""
    return b"\x80\x02" + code + b"."


def zip_file(path, code, storages=None, *, folder="archive", byteorder=b"little"):
    """The zip format; storages are arrays by key."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", pickled(code))
        archive.writestr(f"{folder}/byteorder", byteorder)
        for key, array in (storages or {}).items():
            archive.writestr(f"{folder}/data/{key}", array.tobytes())
    return path


def old_file(path, code, storages=None, *, little=True):
    """The format before: five pickles, then each storage with its length in front."""
    storages, file = storages or {}, io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": little}):
        file.write(pickled(push(value)))
    file.write(pickled(code) + pickled(push(list(storages))))
    for array in storages.values():
        file.write(np.int64(array.size).tobytes() + array.tobytes())
    path.write_bytes(file.getvalue())
    return path


WRITERS = (zip_file, old_file)


def state_code(state):
    """Opcodes of a state dict of contiguous arrays, and its storages."""
    items, storages = {}, {}
    for key, (name, array) in enumerate(state.items()):
        steps = tuple(step // array.itemsize for step in array.strides)
        items[name] = tensor(storage(str(key), str(array.dtype), array.size), 0, array.shape, steps)
        storages[str(key)] = array
    return mapping(items), storages


def saved_state():
    """What the files in SAVED hold; `test_import_torch_forward` says how they were made."""
    base = np.arange(24, dtype=np.float32)
    return {
        "plain": base.reshape(2, 3, 4),
        "transposed": base.reshape(4, 6).T,
        "strided": base.reshape(4, 6)[1:, ::2],
        "expanded": np.broadcast_to(base[:3], (2, 3)),
        "half": (base[:5] / 4).astype(np.float16),
        "bfloat16": (base[:5] / 4).astype(ml_dtypes.bfloat16),
        "double": base[:2].astype(np.float64) / 3,
        "parameter": base[7:9],
        "empty": np.zeros((0, 3), np.float32),
        "bn.num_batches_tracked": np.array(7),
    }


def lenet_state(seed=0, classes=10):
    """A state dict of LeNet."""
    rng = np.random.default_rng(seed)
    shapes = {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "fc1": (500, 800), "fc2": (classes, 500)}
    state = {f"{layer}.weight": rng.normal(0, 0.05, shape) for layer, shape in shapes.items()}
    state |= {f"{layer}.bias": rng.normal(0, 0.05, shape[0]) for layer, shape in shapes.items()}
    return {name: array.astype(np.float32) for name, array in state.items()}


def assert_same(actual, expected):
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        np.testing.assert_array_equal(actual[name], array, err_msg=name)
