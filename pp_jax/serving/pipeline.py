"""Reading, computing and handing out at once, in order and in bounded memory; nothing here knows what is computed."""

import contextlib
import mmap
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")


class Batch(NamedTuple):
    """Rows of a stream, padded with zeros to one length.

    Attributes:
        arrays: (size, …) each; buffers that nobody else holds.
        first: the number of the first row in the stream.
        rows: how many rows are questions; the rest is padding.
    """

    arrays: tuple[np.ndarray, ...]
    first: int
    rows: int


def batches(pieces: Iterable[tuple[Any, ...]], size: int) -> Generator[Batch, None, None]:
    """Cut pieces of any lengths into batches of `size` rows; the last one is padded with zeros.

    Args:
        pieces: tuples of arrays, or of anything with a shape, a dtype and slices (a memory map is read as needed), as
            many rows in each of a tuple.
        size: rows of a batch.

    Raises:
        ValueError: for a piece whose arrays differ in length, or that differs from the first one in dtype or shape of
            a row; if there is no row at all.
    """
    form: Any = None
    buffers: tuple[np.ndarray, ...] = ()
    seen = filled = 0
    for piece in pieces:
        rows = _rows(piece, seen)
        form = _form(piece) if form is None else form
        if _form(piece) != form:
            raise ValueError(f"every batch of a stream must hold {form}: from row {seen} on it is {_form(piece)}")
        start = 0
        while start < rows:
            if not filled:
                buffers = tuple(np.empty((size, *shape), dtype) for shape, dtype in form)
            taken = min(size - filled, rows - start)
            for buffer, array in zip(buffers, piece, strict=True):
                buffer[filled : filled + taken] = array[start : start + taken]
            start, filled, seen = start + taken, filled + taken, seen + taken
            if filled == size:
                release(*piece)
                yield Batch(buffers, seen - filled, filled)
                filled = 0
    if filled:
        for buffer in buffers:
            buffer[filled:] = 0
        yield Batch(buffers, seen - filled, filled)
    if not seen:
        raise ValueError("the stream must hold at least one query, but its source is empty")


def release(*arrays: Any) -> None:
    """Let go of the pages of memory maps that were used: until then they count as this process' memory.

    Only maps that share their pages with the file: what was changed in a copy-on-write map would be lost.
    """
    for array in arrays:
        owner: Any = array if isinstance(array, np.memmap) and array.mode != "c" else None
        while isinstance(owner, np.ndarray):
            owner = owner.base
        if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            owner.madvise(mmap.MADV_DONTNEED)


def _rows(piece: tuple[Any, ...], seen: int) -> int:
    """How many rows every array of a piece has."""
    lengths = [len(array) for array in piece]
    if len(set(lengths)) > 1:
        raise ValueError(f"posteriors and images must be as many: {' and '.join(map(str, lengths))} from row {seen} on")
    return lengths[0]


def _form(piece: tuple[Any, ...]) -> list[tuple[tuple[int, ...], str]]:
    """Shape of a row and dtype of every array."""
    return [(tuple(array.shape[1:]), np.dtype(array.dtype).name) for array in piece]


def in_order(
    launch: Callable[[Batch], T], items: Generator[Batch, None, None], *, depth: int
) -> Generator[T, None, None]:
    """`launch(item)` of every item, in order; one thread reads up to `depth` items ahead.

    A result is handed out when `depth` later ones have been launched, or when the reader has nothing ready. What was
    launched is handed out before an error of the reader is raised. Closing waits for the item that is being read.
    """
    with contextlib.closing(items), ThreadPoolExecutor(1, thread_name_prefix="pp_jax.stream") as reader:
        reads: deque[Future[Batch | None]] = deque(reader.submit(next, items, None) for _ in range(depth))
        launched: deque[T] = deque()
        try:
            while True:
                if launched and (len(launched) > depth or not reads[0].done()):
                    yield launched.popleft()
                    continue
                if reads[0].exception() is not None or (item := reads[0].result()) is None:
                    break
                reads.popleft()
                reads.append(reader.submit(next, items, None))
                launched.append(launch(item))
            yield from launched
            # Raises what the source raised, if it did.
            reads[0].result()
        finally:
            for read in reads:
                read.cancel()
