"""Inputs that mutation starts from: weights and what the library itself keeps on disk."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

_PARTS = ("key", "network", "recipe", "loss", "images", "targets", "unlabelled", "params")
OWNER = {"identity": {"seed": 0}, "training": dict.fromkeys(_PARTS, "0123456789abcdef")}
_ONES = np.ones(4, np.float32)


def manifest() -> Iterator[bytes]:
    """A set's record."""
    listed = {
        "features.json": {"bytes": 2, "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}
    }
    told = {"about": "digits", "source": "a folder", "note": "", "prepared": "2026-01-01T00:00:00+00:00"}
    content = told | {
        "name": "mnist",
        "version": "3.0.1",
        "splits": {"train": {"count": 1, "sha256": ""}},
        "files": listed,
    }
    yield json.dumps(content).encode()
    listed = listed | {"mnist-train.array_record-00000-of-00001": {"bytes": 3, "sha256": "0"}}
    yield json.dumps(content | {"files": listed | {"decoded/train_images.npy": {"bytes": 1, "sha256": ""}}}).encode()


def torch_zip() -> Iterator[bytes]:
    """What `torch.save` writes, and the same by hand."""
    import torch_files

    yield torch_files.SAVED["saved_zip.pt"].read_bytes()
    yield from _by_hand(torch_files.zip_file)


def torch_old() -> Iterator[bytes]:
    """What old versions of `torch.save` wrote, and the same by hand."""
    import torch_files

    yield torch_files.SAVED["saved_old.pt"].read_bytes()
    yield from _by_hand(torch_files.old_file)


def _by_hand(writer: Callable[..., Path]) -> Iterator[bytes]:
    """Small files: a state dict, a nested one, views of storages, parameters."""
    import torch_files as hand

    whole = hand.tensor(hand.storage("0", "float32", 4, view=None), 0, (2, 2), (2, 1))
    parameter = hand.call(hand.named("torch.nn.parameter", "Parameter"), whole) + hand.push((True, False)) + b"b"
    view = hand.tensor(hand.storage("0", "float32", 4, view=("v", 1, 3)), 1, (2,), (1,))
    state = hand.mapping({"module.a": whole, "module.b": whole})
    codes = (
        state,
        hand.mapping({"x": parameter, "y": view}),
        hand.mapping({"epoch": hand.push(3), "state_dict": state}),
    )
    with tempfile.TemporaryDirectory() as room:
        for code in codes:
            yield writer(Path(room) / "x.pt", code, {"0": _ONES}).read_bytes()


def safetensors() -> Iterator[bytes]:
    """Weights in safetensors."""
    from safetensors.numpy import save

    yield save({"a": _ONES, "b.c": np.zeros((2, 0, 3), np.float16)}, {"format": "pt"})
    yield save({"a": _ONES.astype(np.uint16), "b": _ONES.astype(bool)})


def checkpoint() -> Iterator[bytes]:
    """The library's own checkpoints."""
    from pp_jax.results import checkpoints

    trees = ({"params": {"fc": {"kernel": _ONES.reshape(2, 2), "bias": _ONES}}, "empty": {}}, {"a": _ONES[0]})
    with tempfile.TemporaryDirectory() as room:
        for tree in trees:
            for metadata in ({}, {"mean": [0.0], "std": [1.0], "model": "lenet", "num_classes": 10}):
                yield checkpoints.save(Path(room) / "x.safetensors", tree, metadata=metadata).read_bytes()


def record() -> Iterator[bytes]:
    """Records of experiments."""
    from pp_jax.results.records import record as records

    with tempfile.TemporaryDirectory() as room:
        config = {"seed": 0, "defense": {"name": "MAD", "epsilon": 0.1}, "budgets": [1, 2]}
        outcome = {"accuracy": 0.5, "examples": [[1, 2]], "labels": ["a", None]}
        yield records.write(room, kind="k", config=config, result=outcome, timings={"total_s": 1.5}).read_bytes()
        yield records.write(room, kind="k", config={}, result={}, timings={}).read_bytes()


def seal() -> Iterator[bytes]:
    """Seals of a checkpoint: of this training, of others, and without its entries."""
    from pp_jax.training import sealing

    others: tuple[dict[str, Any], ...] = ({"identity": {"seed": 1}}, {"training": {}}, {"training": "0" * 64})
    with tempfile.TemporaryDirectory() as room:
        place = Path(room) / "3"
        (place / sealing.STATE).mkdir(parents=True)
        (place / sealing.STATE / "array").write_bytes(b"123")
        for other in ({}, *others):
            sealing.write_seal(place, OWNER | other)
            yield (place / "seal.json").read_bytes()
    yield b"{}"


def mark() -> Iterator[bytes]:
    """Marks: of this purpose, of another one."""
    for purpose in ("notes", "others"):
        yield json.dumps({"keeps": purpose, "holds": [r".*\.txt", r"[0-9]+/"]}).encode()


def journal() -> Iterator[bytes]:
    """Two batches, and one that was not answered."""
    from pp_jax.serving import journal

    with tempfile.TemporaryDirectory() as room:
        with journal.opened(Path(room) / "own") as kept:
            for _ in range(2):
                kept.asking(2)
                kept.answered(np.zeros((2, 3, 3, 1), np.uint8), np.full((2, 2), 0.5, np.float32))
            kept.asking(2)
        yield next(Path(room).rglob("queries.journal")).read_bytes()


def shards() -> Iterator[bytes]:
    """The index of two files."""
    yield json.dumps({"metadata": {}, "weight_map": {"a": "1.safetensors", "b.c": "2.safetensors"}}).encode()


def wire() -> Iterator[bytes]:
    """Requests of each protocol and a response, behind the header of lengths."""
    from pp_jax.serving import wire

    model = wire.Model("m", (2, 2, 1), 3, most=4)
    images = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2, 1)
    for binary in (False, True):
        body, headers = wire.write_v2(images, model, binary=binary)
        yield headers.get(wire.HEADER, "").encode() + b"\n" + body
        request = wire.Request(images, "me", binary)
        body, headers = wire.render_v2(np.full((2, 3), 1 / 3, np.float32), request, model)
        yield headers.get(wire.HEADER, "").encode() + b"\n" + body
    for name in ("instances", "inputs"):
        yield b"\n" + json.dumps({name: images.tolist()}).encode()
