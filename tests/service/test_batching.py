"""Dynamic batching: everybody gets their own answers in their order, and nobody waits for ever."""

import asyncio

import numpy as np
import pytest

from pp_jax.service.batching import Batcher, BatchFailed, Overloaded
from pp_jax.service.engine import Answers


class Echo:
    """An engine whose response to an image is its number; notes the sizes of batches."""

    largest = 8

    def __init__(self):
        self.sizes, self.fails = [], False

    def warm(self):
        """Nothing to compile."""

    def answer(self, images, names, *, probs=None):
        """Numbers of images."""
        if self.fails:
            raise RuntimeError("broken")
        self.sizes.append(len(images))
        column = images.reshape(len(images), 1)
        return Answers(column, column if probs is None else probs, column[:, 0], column[:, 0])


def run(work, *, wait_s=0.001, most=1000, after=lambda *_: None):
    """Run a coroutine function with a batcher and its engine."""

    async def main():
        engine = Echo()
        batcher = Batcher(engine, wait_s=wait_s, most=most, after=after)
        await batcher.start()
        try:
            return await asyncio.wait_for(work(batcher, engine), 10)
        finally:
            await batcher.stop()

    return asyncio.run(main())


def numbers(first, count):
    return np.arange(first, first + count, dtype=np.float32).reshape(count, 1, 1, 1)


def test_many_clients_get_their_own_answers_in_their_order():
    async def work(batcher, engine):
        sizes = np.random.default_rng(0).integers(1, 30, 60)
        starts = np.cumsum(sizes) - sizes
        jobs = [batcher.submit(numbers(a, n), f"c{i}") for i, (a, n) in enumerate(zip(starts, sizes, strict=True))]
        for start, size, found in zip(starts, sizes, await asyncio.gather(*jobs), strict=True):
            assert found.responses[:, 0].tolist() == list(range(start, start + size))
        return engine.sizes, int(sizes.sum())

    sizes, total = run(work)
    assert sum(sizes) == total
    assert max(sizes) <= 8
    assert len(sizes) <= -(-total // 8) + 1


def test_one_image_does_not_wait_for_others_longer_than_it_must():
    async def work(batcher, engine):
        loop = asyncio.get_running_loop()
        started = loop.time()
        await batcher.submit(numbers(0, 1), "a")
        return loop.time() - started

    assert 0.05 <= run(work, wait_s=0.05) < 2


def test_a_full_batch_waits_for_nobody():
    async def work(batcher, engine):
        await batcher.submit(numbers(0, 8), "a")

    run(work, wait_s=100)


def test_more_than_may_wait_are_refused_and_room_comes_back():
    async def work(batcher, engine):
        first = asyncio.create_task(batcher.submit(numbers(0, 10), "a"))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await batcher.submit(numbers(10, 3), "b")
        await first
        assert len((await batcher.submit(numbers(0, 12), "b")).responses) == 12

    run(work, most=12)


def test_a_batch_that_fails_fails_its_own_requests_and_no_later_one():
    async def work(batcher, engine):
        engine.fails = True
        jobs = [batcher.submit(numbers(0, 20), "a"), batcher.submit(numbers(0, 2), "b")]
        found = await asyncio.gather(*jobs, return_exceptions=True)
        assert all(isinstance(error, BatchFailed) for error in found)
        engine.fails = False
        assert len((await batcher.submit(numbers(0, 30), "a")).responses) == 30
        with pytest.raises(Overloaded):
            await batcher.submit(numbers(0, 41), "a")

    run(work, most=40)


def test_what_nobody_waits_for_any_more_is_left_out():
    async def work(batcher, engine):
        gone = asyncio.create_task(batcher.submit(numbers(0, 4), "a"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await batcher.submit(numbers(4, 8), "b")
        return engine.sizes

    assert run(work, wait_s=0.2) == [8]


def test_what_waits_is_answered_before_it_stops():
    async def work(batcher, engine):
        jobs = [asyncio.create_task(batcher.submit(numbers(0, 20), name)) for name in "abc"]
        await asyncio.sleep(0)
        await batcher.stop()
        return [len(job.result().responses) for job in jobs if job.done()]

    assert run(work) == [20, 20, 20]


def test_posteriors_from_elsewhere_stay_with_their_images():
    async def work(batcher, engine):
        jobs = [batcher.submit(numbers(3 * i, 3), "a", 100 + numbers(3 * i, 3).reshape(3, 1)) for i in range(5)]
        for i, found in enumerate(await asyncio.gather(*jobs)):
            assert found.probs[:, 0].tolist() == [100 + 3 * i + j for j in range(3)]

    run(work)


def test_after_is_told_of_every_image_once():
    told = []

    async def work(batcher, engine):
        await asyncio.gather(*(batcher.submit(numbers(i, 3), f"c{i}") for i in range(9)))

    run(work, after=lambda names, answers, seconds: told.extend(names))
    assert sorted(told) == sorted(f"c{i}" for i in range(9) for _ in range(3))
