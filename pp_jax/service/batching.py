"""Dynamic batching: requests of many clients in one batch, no bigger than the largest size, none waiting for long."""

import asyncio
import concurrent.futures
import dataclasses
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from pp_jax.service.engine import Answers, Engine


class Overloaded(RuntimeError):
    """More images are waiting than the service may hold."""


class BatchFailed(RuntimeError):
    """Images were not answered, as their batch failed."""


@dataclasses.dataclass(eq=False)
class _Job:
    """Images of one request, and what of them has been answered."""

    images: np.ndarray
    probs: np.ndarray | None
    name: str | None
    future: asyncio.Future[Answers]
    begun: int = 0
    parts: list[Answers] = dataclasses.field(default_factory=list)


class Batcher:
    """Collects images until a batch is full or the oldest has waited long enough, and runs it in a thread.

    Args:
        engine: answers batches.
        wait_s: how long the first image of a batch waits for others, at most.
        most: images that may wait, at most.
        after: is told of every batch, in its thread: names, answers, seconds.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        wait_s: float,
        most: int,
        after: Callable[[list[str | None], Answers, float], None] = lambda *_: None,
    ) -> None:
        self._engine, self._wait, self._most, self._after = engine, wait_s, most, after
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._arrived = asyncio.Event()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "batches")
        self._task: asyncio.Task[None] | None = None
        self._busy = False

    async def start(self) -> None:
        """Begin to answer; the engine is warm from here on."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._engine.warm)
        self._task = loop.create_task(self._run())

    async def stop(self) -> None:
        """Answer what is waiting, then end."""
        while self._task is not None and (self._jobs or self._busy):
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()

    async def submit(self, images: np.ndarray, name: str | None, probs: np.ndarray | None = None) -> Answers:
        """Answer images of one account, in their order; None is nobody's, and nothing is remembered of it.

        Raises:
            Overloaded: where too many images are waiting; nothing is answered then.
            BatchFailed: where a batch with some of them failed.
        """
        if self._waiting + len(images) > self._most:
            raise Overloaded(f"{self._waiting} images are waiting")
        job = _Job(images, probs, name, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._waiting += len(images)
        self._arrived.set()
        try:
            return await job.future
        except asyncio.CancelledError:
            self._drop(job)
            raise

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            deadline = loop.time() + self._wait
            while self._waiting < self._engine.largest and (left := deadline - loop.time()) > 0:
                self._arrived.clear()
                try:
                    await asyncio.wait_for(self._arrived.wait(), left)
                except TimeoutError:
                    break
            self._busy = True
            await self._batch(self._next())
            self._busy = False
            if not self._jobs:
                self._arrived.clear()
            else:
                self._arrived.set()

    def _drop(self, job: _Job) -> None:
        """Leave out what is left of a request that cannot be answered as a whole any more."""
        if job in self._jobs:
            self._jobs.remove(job)
            self._waiting -= len(job.images) - job.begun

    def _next(self) -> list[tuple[_Job, slice]]:
        """The next images in order of arrival, as many as one batch holds."""
        taken, room = [], self._engine.largest
        while self._jobs and room:
            job = self._jobs[0]
            end = min(len(job.images), job.begun + room)
            taken.append((job, slice(job.begun, end)))
            room -= end - job.begun
            job.begun = end
            if end == len(job.images):
                self._jobs.popleft()
        self._waiting -= self._engine.largest - room
        return taken

    async def _batch(self, taken: list[tuple[_Job, slice]]) -> None:
        """Answer a batch, and hand every request its part."""

        def work() -> Answers:
            images = np.concatenate([job.images[rows] for job, rows in taken])
            names = [job.name for job, rows in taken for _ in range(rows.stop - rows.start)]
            probs = None
            if taken[0][0].probs is not None:
                probs = np.concatenate([job.probs[rows] for job, rows in taken if job.probs is not None])
            started = time.perf_counter()
            answers = self._engine.answer(images, names, probs=probs)
            self._after(names, answers, time.perf_counter() - started)
            return answers

        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except Exception as error:  # whoever waits is told; the service goes on with the next batch
            failed = BatchFailed(f"a batch failed: {type(error).__name__}: {str(error)[:200]}")
            for job, _ in taken:
                if not job.future.done():
                    job.future.set_exception(failed)
                self._drop(job)
            return
        place = 0
        for job, rows in taken:
            count = rows.stop - rows.start
            job.parts.append(Answers(*(column[place : place + count] for column in answers)))
            place += count
            if rows.stop == len(job.images) and not job.future.done():
                job.future.set_result(Answers(*(np.concatenate(columns) for columns in zip(*job.parts, strict=True))))
