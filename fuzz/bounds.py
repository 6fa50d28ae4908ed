"""What a reader may do with foreign bytes: give a value or one error of its own, within bounds, and nothing else."""

import contextlib
import dataclasses
import os
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

MAX_BYTES = 1 << 16
"""The longest input that is tried."""

MAX_SECONDS = 2.0
"""Processor time of one case."""

MAX_ALLOCATED = 640 << 20
"""Bytes that a case may hold at once, as Python and NumPy allocate them, whether they touch them or not."""

MAX_MESSAGE = 1000
"""Characters of a message."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """What a reader did that it must not do.

    Attributes:
        what: in words.
        place: where in the package, such as "data/files.py:41"; two faults of one place and kind count as one.
        details: the traceback, if there is one.
    """

    what: str
    place: str = ""
    details: str = ""

    @property
    def kind(self) -> str:
        """What makes two faults the same."""
        return f"{self.what.split(':')[0]} {self.place}".strip()


class Watch:
    """Runs readers and finds faults, as a context: it catches what is printed, also by C code."""

    def __enter__(self) -> "Watch":
        self._caught = os.memfd_create("caught")
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._caught)

    def fault(
        self, read: Callable[[bytes, Path], None], refusals: tuple[type[BaseException], ...], data: bytes, folder: Path
    ) -> Fault | None:
        """Run a reader on one input in an empty folder and say what it did wrong, if anything.

        Args:
            read: the reader; what it writes below `folder` is removed afterwards.
            refusals: the errors that it may raise: these and their subclasses, but `ValueError` itself alone.
            data: the input.
            folder: an empty folder.
        """
        tracemalloc.start(1)
        start = time.process_time()
        error: BaseException | None = None
        with self._silenced() as printed, warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                read(data, folder)
            except KeyboardInterrupt:
                raise
            except BaseException as caught:
                error = caught
            seconds = time.process_time() - start
            allocated = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        found = _of_error(error, refusals)
        if found is None and warned:
            found = Fault(f"warns: {warned[0].message}", f"{Path(warned[0].filename).name}:{warned[0].lineno}")
        if found is None and (text := printed()):
            found = Fault(f"prints: {text[:200]!r}")
        if found is None and seconds > MAX_SECONDS:
            found = Fault(f"takes too long: {seconds:.1f} s")
        if found is None and allocated > MAX_ALLOCATED:
            found = Fault(f"allocates too much: {allocated >> 20} MiB")
        return found

    @contextlib.contextmanager
    def _silenced(self) -> Iterator[Callable[[], bytes]]:
        """Standard output and error, those of C code too, go to a file in memory; yields what reads it."""
        os.ftruncate(self._caught, 0)
        os.lseek(self._caught, 0, os.SEEK_SET)
        kept = [os.dup(stream) for stream in (1, 2)]
        for stream in (1, 2):
            os.dup2(self._caught, stream)
        text = open(self._caught, "w", closefd=False)  # noqa: SIM115 - flushed below, while the streams are replaced
        try:
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                yield self._printed
        finally:
            text.close()
            for stream, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, stream)
                os.close(copy)

    def _printed(self) -> bytes:
        """What was caught."""
        return os.pread(self._caught, 1 << 12, 0)


def _of_error(error: BaseException | None, refusals: tuple[type[BaseException], ...]) -> Fault | None:
    """What is wrong with the error that a reader raised."""
    if error is None:
        return None
    what, message = None, str(error)
    if not _is_own(error, refusals):
        what = f"raises {type(error).__name__}: {error}"
    elif _chained_memory_error(error):
        what = "tries to allocate what it cannot"
    elif not message.strip() or len(message) > MAX_MESSAGE:
        what = f"has a message too short or too long: {len(message)} characters"
    elif not message.isprintable():
        what = f"has a message that does not print: {message!r}"
    return None if what is None else Fault(what, _place(error), "".join(traceback.format_exception(error)))


def _is_own(error: BaseException, refusals: tuple[type[BaseException], ...]) -> bool:
    """Whether an error is one that a reader may raise; of `ValueError` no subclass, such as that of a codec."""
    return any(type(error) is kind or (kind is not ValueError and isinstance(error, kind)) for kind in refusals)


def _chained_memory_error(error: BaseException) -> bool:
    """Whether an error came of another that says that there is no memory."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, MemoryError):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _place(error: BaseException) -> str:
    """The deepest line of the package in an error's traceback."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/pp_jax/" in frame.filename]
    if not frames:
        return ""
    return f"{frames[-1].filename.rpartition('/pp_jax/')[2]}:{frames[-1].lineno}"


def described(file: IO[str], fault: Fault) -> None:
    """Write a fault with its traceback."""
    print(f"{fault.what}\n{fault.place}\n{fault.details}", file=file)
