"""Any number of queries in bounded memory: sets larger than memory, and streams without an end.

One thread reads ahead while the device computes; every batch has one shape, so one compiled program serves the whole
stream. Answers come in order, on the host.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from pp_jax import parallel
from pp_jax._checks import as_array, as_images, as_posteriors, check_count, check_defense, check_forgetful, check_key
from pp_jax.serving import blackbox, perturbation
from pp_jax.serving.pipeline import Batch, batches, in_order, release
from pp_jax.types import Audit, Defense

Pair = tuple[Any, Any]
T = TypeVar("T")


def perturb(
    defense: Defense,
    source: Pair | Iterable[Pair],
    *,
    key: jax.Array | None = None,
    batch_size: int = 1024,
    prefetch: int = 2,
    mesh: Mesh | None = None,
    check: bool = True,
) -> Iterator[np.ndarray]:
    """Answer a stream of posteriors through a defense: `pp_jax.perturb` of every `batch_size` rows.

    Bit for bit what `pp_jax.perturb` returns for the same `batch_size` rows (the tail: padded to them); for the same
    rows in a batch of another size, up to the rounding of the surrogate's forward pass.

        probs, images = np.load("probs.npy", mmap_mode="r"), np.load("images.npy", mmap_mode="r")
        out = np.lib.format.open_memmap("answers.npy", "w+", np.float32, probs.shape)
        stream.write(stream.perturb(defense, (probs, images)), out)

    Args:
        defense: any defense.
        source: a pair (posteriors (N, K), images (N, H, W, C)) of arrays or memory maps, or an iterable of such pairs
            of any lengths, all of one dtype and shape of a row. It is iterated in another thread.
        key: the defender's secret key (`jax.random.key`), needed by defenses that draw random numbers.
        batch_size: rows on the devices at once, of which `prefetch` + 1 are under way; a multiple of the devices.
        prefetch: how many batches are read, and how many computed, ahead of the one handed out; at least 1.
        mesh: this process' devices that share the rows of a batch (`parallel.data_mesh`).
        check: look at the values.

    Returns:
        An iterator over responses, (batch_size, K) and a shorter tail. Closing it stops the reading.

    Raises:
        ValueError: at once for a random defense without a key, an option out of range, or a mesh that does not fit;
            while iterating, what `pp_jax.perturb` refuses, with the rows' numbers in the stream, and a source that is
            empty or changes its form. What the source raises comes through, after the responses to what came before it.
    """
    check_defense(defense)
    check_forgetful(defense)
    check_key(defense, key)
    _check_options(batch_size, prefetch, mesh)
    defense = defense if mesh is None else parallel.place(defense, mesh)

    def launch(batch: Batch) -> Any:
        probs, images = batch.arrays
        _at(batch, as_posteriors, probs)
        _at(batch, as_images, images)
        # Padding must not be what `check` complains about.
        probs[batch.rows :, 0] = 1
        # A response of another dtype than its posterior does not fit in the latter's place.
        in_place = probs.dtype in (np.float32, np.float64)
        answered = perturbation.answered_in_place if in_place else perturbation.answered
        return answered(defense, *_put(mesh, batch), key, batch_size=None, mesh=mesh)

    def finish(batch: Batch, result: tuple[jax.Array, perturbation.Broken]) -> np.ndarray:
        answers, broken = result
        if check:
            # Fetched as a whole: reading a count at a time would launch programs behind those under way.
            _at(batch, jax.device_get(broken).report, batch.rows, defense)
        return np.asarray(answers)[: batch.rows]

    return _run(launch, finish, _pairs(source), batch_size, prefetch)


def ask(
    box: blackbox.BlackBox, source: Any, *, batch_size: int = 1024, prefetch: int = 2
) -> Iterator[tuple[np.ndarray, Audit]]:
    """Ask a black box about a stream of images: `box(images)` of every `batch_size` of them.

    Args:
        box: victim and defense; its mesh, if any, is of this process' devices.
        source: images (N, H, W, C), an array or a memory map, or an iterable of such of any lengths, all of one dtype
            and shape of a row. It is iterated in another thread.
        batch_size: images on the devices at once, of which `prefetch` + 1 are under way; a multiple of the devices.
        prefetch: how many batches are read, and how many computed, ahead of the one handed out; at least 1.

    Returns:
        An iterator over (responses, `Audit`), both on the host, `batch_size` rows and a shorter tail. Closing it stops
        the reading.

    Raises:
        ValueError: as `perturb` of this module, and as the black box.
    """
    check_forgetful(box.defense)
    check_key(box.defense, box.key)
    _check_options(batch_size, prefetch, box.mesh)
    box = box if box.mesh is None else parallel.place(box, box.mesh)

    def launch(batch: Batch) -> Any:
        (images,) = batch.arrays
        _at(batch, as_images, images)
        return blackbox.answered(box, *_put(box.mesh, batch))

    def finish(batch: Batch, result: tuple[jax.Array, Audit, perturbation.Broken]) -> tuple[np.ndarray, Audit]:
        answers, audit, broken = result
        _at(batch, jax.device_get(broken).report, batch.rows, box.defense)
        return np.asarray(answers)[: batch.rows], jax.tree.map(lambda a: np.asarray(a)[: batch.rows], audit)

    pieces = [source] if hasattr(source, "shape") else source
    return _run(launch, finish, ((as_array(piece, "images", lazy=True),) for piece in pieces), batch_size, prefetch)


def write(answers: Iterable[np.ndarray], out: Any) -> None:
    """Write a stream of responses into one array or memory map.

    Args:
        answers: an iterator from `perturb`.
        out: (N, K), N the number of all responses.

    Raises:
        ValueError: for more or fewer answers than `out` has rows.
    """
    written = 0
    for rows in answers:
        if written + len(rows) > len(out):
            raise ValueError(f"out must have a row for every answer: it has {len(out)}, there are more")
        out[written : written + len(rows)] = rows
        written += len(rows)
        release(out)
    if written != len(out):
        raise ValueError(f"out must have a row for every answer: it has {len(out)}, there were {written}")


def _run(
    launch: Callable[[Batch], Any],
    finish: Callable[[Batch, Any], T],
    pieces: Iterable[tuple[Any, ...]],
    size: int,
    depth: int,
) -> Iterator[T]:
    """`finish(batch, launch(batch))` of every batch; the result is waited for when its turn has come."""
    results = in_order(lambda batch: (batch, launch(batch)), batches(pieces, size), depth=depth)
    with contextlib.closing(results):
        for batch, result in results:
            yield finish(batch, result)


def _check_options(batch_size: int, prefetch: int, mesh: Mesh | None) -> None:
    """Refuse what could not run."""
    check_count("prefetch", prefetch, low=1)
    parallel.check_mesh(mesh)
    devices = 1 if mesh is None else mesh.shape[parallel.DATA]
    if isinstance(batch_size, bool) or batch_size < 1 or batch_size % devices:
        raise ValueError(
            f"batch_size must be a positive multiple of the devices that share it, {devices}, not {batch_size}"
        )
    if mesh is not None and mesh.is_multi_process:
        raise ValueError(
            "the mesh of a stream must be of this process' devices, parallel.data_mesh(devices=jax.local_devices()), "
            "not of several processes': with streams of different lengths they would wait for each other"
        )


def _pairs(source: Any) -> Iterator[tuple[Any, ...]]:
    """The pairs of a source, which may be one pair itself."""
    one = isinstance(source, tuple) and len(source) == 2 and all(hasattr(part, "shape") for part in source)
    for probs, images in [source] if one else source:
        yield as_array(probs, "posteriors", lazy=True), as_array(images, "images", lazy=True)


def _put(mesh: Mesh | None, batch: Batch) -> Iterable[jax.Array]:
    """Start the transfer of a batch: to the device, or each device's rows to it."""
    return [jax.device_put(a) for a in batch.arrays] if mesh is None else parallel.spread(mesh, *batch.arrays)


def _at(batch: Batch, check: Callable[..., Any], *args: Any) -> None:
    """Run a check of a batch; its error says where in the stream."""
    try:
        check(*args)
    except ValueError as error:
        first, last = batch.first, batch.first + batch.rows - 1
        raise ValueError(f"rows {first} to {last} of the stream: {error}") from error
