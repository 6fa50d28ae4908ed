"""Streams: the answers are those of `perturb`, one program serves all, and memory does not grow with the length."""

import itertools
import threading
import time

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import children
from pp_jax import MAD, BlackBox, RandomNoise, chain, parallel, perturb, stream
from pp_jax.serving import perturbation
from support import linear_logits, linear_params, quick

CLASSES, SIDE, COUNT, SIZE = 5, 6, 100, 16
PARAMS = linear_params(jax.random.key(0), SIDE * SIDE, CLASSES, scale=0.1)
# Not the surrogate's: where both agree the clean gradient is zero, and rounding alone says which answer turns it most.
VICTIM = linear_params(jax.random.key(4), SIDE * SIDE, CLASSES, scale=0.1)
KEY = jax.random.key(1)


def _set(count=COUNT):
    """Posteriors (N, K) and images (N, H, W, C) on the host."""
    rng = np.random.default_rng(0)
    return (
        rng.dirichlet(np.ones(CLASSES), count).astype(np.float32),
        rng.integers(0, 256, (count, SIDE, SIDE, 1)).astype(np.uint8),
    )


PROBS, IMAGES = _set()
DEFENSES = {
    "MAD": MAD(linear_logits, PARAMS, 0.5),
    "MAD-argmax": MAD.argmax_preserving(linear_logits, PARAMS, 0.5),
    "noise": RandomNoise(1.0),
    "chain": chain(MAD(linear_logits, PARAMS, 0.5), RandomNoise(1.0)),
    "none": chain(),
}


def _all(answers):
    """A stream as one array."""
    return np.concatenate(list(answers))


def _stream(source=(PROBS, IMAGES), defense=DEFENSES["chain"], **options):
    return stream.perturb(defense, source, **{"key": KEY, "batch_size": SIZE} | options)


def _pieces(lengths):
    """The set in pieces of the given lengths, the rest in a last one."""
    ends = np.minimum(np.cumsum([0, *lengths, COUNT]), COUNT)
    return ((PROBS[a:b], IMAGES[a:b]) for a, b in itertools.pairwise(ends))


@pytest.mark.parametrize("name", quick(DEFENSES, 0))
def test_answers_are_those_of_perturb_for_the_same_batch_bit_for_bit(name):
    batches = list(_stream(defense=DEFENSES[name]))
    assert [len(batch) for batch in batches] == [SIZE] * (COUNT // SIZE) + [COUNT % SIZE]
    for number, batch in enumerate(batches):
        rows = slice(number * SIZE, number * SIZE + SIZE)
        padding = [(0, SIZE - len(batch))]
        probs = np.pad(PROBS[rows], [*padding, (0, 0)], mode="edge")
        images = np.pad(IMAGES[rows], [*padding, (0, 0), (0, 0), (0, 0)])
        expected = perturb(DEFENSES[name], probs, images, key=KEY)
        np.testing.assert_array_equal(batch, expected[: len(batch)])


@pytest.mark.parametrize("name", DEFENSES)
def test_answers_are_those_of_one_large_batch_up_to_rounding(name):
    whole = perturb(DEFENSES[name], PROBS, IMAGES, key=KEY)
    np.testing.assert_allclose(_all(_stream(defense=DEFENSES[name])), whole, atol=1e-6)


@hypothesis.given(lengths=st.lists(st.integers(0, 40), max_size=8))
@hypothesis.settings(max_examples=20)
def test_the_pieces_of_the_source_make_no_difference(lengths):
    np.testing.assert_array_equal(_all(_stream(_pieces(lengths))), _all(_stream()))


def test_one_trace_serves_streams_of_every_length_and_every_piece():
    surrogate = chex.assert_max_traces(linear_logits, n=1)
    defense = MAD(surrogate, PARAMS, 0.5)
    for source in ((PROBS, IMAGES), (PROBS[:3], IMAGES[:3]), _pieces([1, 30, 2]), list(_pieces([7] * 5))):
        _all(_stream(source, defense))


@pytest.mark.parametrize("options", [{"prefetch": 1}, {"prefetch": 5}, {"prefetch": 50}, {"check": False}])
def test_options_do_not_change_an_answer(options):
    np.testing.assert_array_equal(_all(_stream(**options)), _all(_stream()))


def test_memory_maps_are_read_and_written_in_place(tmp_path):
    np.save(tmp_path / "probs.npy", PROBS)
    np.save(tmp_path / "images.npy", IMAGES)
    source = tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("probs", "images"))
    out = np.lib.format.open_memmap(tmp_path / "answers.npy", "w+", np.float32, PROBS.shape)
    stream.write(_stream(source), out)
    np.testing.assert_array_equal(np.load(tmp_path / "answers.npy"), _all(_stream()))


def test_changes_in_a_copy_on_write_map_are_neither_lost_nor_missed(tmp_path):
    np.save(tmp_path / "probs.npy", np.roll(PROBS, 1, axis=1))
    np.save(tmp_path / "images.npy", IMAGES)
    probs, images = (np.load(tmp_path / f"{name}.npy", mmap_mode="c") for name in ("probs", "images"))
    probs[:] = PROBS
    np.testing.assert_array_equal(_all(_stream((probs, images))), _all(_stream()))
    np.testing.assert_array_equal(probs, PROBS)


@pytest.mark.parametrize("rows", [COUNT - 1, COUNT + 1])
def test_an_output_of_another_length_is_refused(rows):
    with pytest.raises(ValueError, match=f"a row for every answer: it has {rows}, there"):
        stream.write(_stream(), np.empty((rows, CLASSES), np.float32))


def test_the_source_is_left_as_it_was_and_the_posteriors_buffer_holds_the_answers():
    probs = PROBS.copy()
    _all(_stream((probs, IMAGES)))
    np.testing.assert_array_equal(probs, PROBS)
    given = jnp.array(PROBS)
    perturbation.answered_in_place(DEFENSES["MAD"], given, IMAGES, None, batch_size=None, mesh=None)
    assert given.is_deleted()


@pytest.mark.parametrize("name", ["MAD", "none"])
def test_half_precision_posteriors_are_answered_as_by_perturb(name):
    half = np.asarray(PROBS, jnp.bfloat16)[:SIZE]
    (answers,) = _stream((half, IMAGES[:SIZE]), DEFENSES[name])
    expected = perturb(DEFENSES[name], half, IMAGES[:SIZE])
    assert answers.dtype == expected.dtype
    np.testing.assert_array_equal(answers, expected)


def test_float64_posteriors_get_float64_answers():
    with jax.enable_x64(True):
        answers = _all(_stream((PROBS.astype(np.float64), IMAGES), DEFENSES["MAD"], check=False))
    assert answers.dtype == np.float64
    np.testing.assert_allclose(answers, _all(_stream(defense=DEFENSES["MAD"])), atol=1e-5)


@pytest.mark.parametrize("whole", [True, False], ids=["array", "iterator"])
def test_a_black_box_answers_and_audits_a_stream_as_it_does_a_batch(whole):
    box = BlackBox(linear_logits, VICTIM, DEFENSES["chain"], KEY)
    parts = list(stream.ask(box, IMAGES if whole else (images for _, images in _pieces([3, 50])), batch_size=SIZE))
    answers, audit = box(IMAGES[:SIZE])
    np.testing.assert_array_equal(parts[0][0], answers)
    np.testing.assert_array_equal(parts[0][1].probs, audit.probs)
    answers, audit = box(IMAGES)
    np.testing.assert_allclose(_all(part for part, _ in parts), answers, atol=1e-6)
    np.testing.assert_allclose(_all(part.probs for _, part in parts), audit.probs, atol=1e-6)


def _threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("pp_jax.stream")]


def test_the_source_is_read_ahead_in_a_thread_but_not_far():
    read, where = [], set()

    def source():
        for start in range(0, COUNT, 4):
            read.append(start)
            where.add(threading.current_thread().name)
            yield PROBS[start : start + 4], IMAGES[start : start + 4]

    answers = _stream(source(), batch_size=4, prefetch=2)
    assert read == []
    next(answers)
    # Handed out: 1; computed ahead: up to 2; read ahead: up to 2.
    assert len(read) <= 5
    assert threading.current_thread().name not in where
    answers.close()
    assert _threads() == []
    assert len(read) <= 5


def test_a_stream_that_ends_leaves_no_thread():
    _all(_stream())
    assert _threads() == []


def test_answers_come_as_soon_as_they_are_there_when_the_source_is_slow():
    handed_out = threading.Event()

    def source():
        yield PROBS[:SIZE], IMAGES[:SIZE]
        assert handed_out.wait(timeout=60)
        yield PROBS[SIZE : 2 * SIZE], IMAGES[SIZE : 2 * SIZE]

    answers = _stream(source())
    next(answers)
    handed_out.set()
    assert len(next(answers)) == SIZE


def test_what_the_source_raises_comes_through_after_the_answers_before_it():
    def source():
        yield PROBS[: 2 * SIZE], IMAGES[: 2 * SIZE]
        raise OSError("the disk is gone")

    answers, seen = _stream(source()), []
    with pytest.raises(OSError, match="the disk is gone"):
        seen.extend(answers)
    np.testing.assert_array_equal(np.concatenate(seen), _all(_stream())[: 2 * SIZE])
    assert _threads() == []


def test_a_source_is_closed_when_its_stream_is():
    closed = []

    def source():
        try:
            while True:
                yield PROBS, IMAGES
        finally:
            closed.append(True)

    answers = _stream(source())
    next(answers)
    answers.close()
    deadline = time.monotonic() + 10
    while not closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert closed


def _spoilt(row):
    probs = PROBS.copy()
    probs[row, 0] = np.nan
    return probs


FLOATS = (IMAGES / 255).astype(np.float32)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((_spoilt(37), IMAGES), "rows 32 to 47 of the stream: posteriors must be finite: 1 of 16 rows do not"),
        ((_spoilt(99), IMAGES), "rows 96 to 99 of the stream: posteriors must be finite: 1 of 4 rows do not"),
        ((PROBS, FLOATS * 2), r"rows 0 to 15 of the stream: floating-point images must be in \[0, 1\]: 16 of 16"),
        ((PROBS[:, :1], IMAGES), r"shape \(B, K\) with K ≥ 2, not \(16, 1\)"),
        ((PROBS, IMAGES[:, 0]), r"images must have shape \(B, H, W, C\) with B ≥ 1, not \(16, 6, 1\)"),
        ((PROBS[:50], IMAGES), "posteriors and images must be as many: 50 and 100 from row 0 on"),
        ([(PROBS, IMAGES), (PROBS[:2], IMAGES[:1])], "as many: 2 and 1 from row 100 on"),
        ((PROBS[:0], IMAGES[:0]), "at least one query, but its source is empty"),
        ([], "at least one query, but its source is empty"),
        (
            [(PROBS, IMAGES), (PROBS[:, :4], IMAGES)],
            r"must hold \[\(\(5,\), 'float32'\), .*: from row 100 on it is \[\(\(4,\)",
        ),
        ([(PROBS, IMAGES), (PROBS, FLOATS)], r"'uint8'\)\]: from row 100 on it is .*'float32'\)\]"),
    ],
)
def test_a_bad_source_is_refused_with_its_rows(source, message):
    with pytest.raises(ValueError, match=message):
        _all(_stream(source))
    assert _threads() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a positive multiple of the devices that share it, 1, not 0"),
        ({"batch_size": -4}, "positive multiple of the devices that share it, 1, not -4"),
        ({"prefetch": 0}, "prefetch must be a whole number of at least 1, not 0"),
        ({"key": None}, r"needs key=jax.random.key\(…\), not None"),
        ({"mesh": jax.sharding.Mesh(jax.devices(), ("rows",))}, r"must have an axis 'data' .* not only \('rows',\)"),
    ],
)
def test_a_bad_option_is_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        _stream(**options)


def test_a_mesh_of_one_device_changes_nothing():
    mesh = parallel.data_mesh()
    np.testing.assert_array_equal(_all(_stream(mesh=mesh)), _all(_stream()))


def _grown(folder, queries, classes):
    """Bytes by which a process grew that streamed so many queries, and its traces; its answers are looked at."""
    probs = np.lib.format.open_memmap(folder / "probs.npy", "w+", np.float32, (queries, classes))
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (queries, 28, 28, 1))
    rng = np.random.default_rng(0)
    for start in range(0, queries, 1000):
        rows = slice(start, min(start + 1000, queries))
        probs[rows] = rng.dirichlet(np.ones(classes), rows.stop - start)
        images[rows] = rng.integers(0, 256, (rows.stop - start, 28, 28, 1), np.uint8)
    (result,) = children.results(children.start("consume.py", folder, classes), timeout=600)
    answers = np.load(folder / "answers.npy", mmap_mode="r")
    for start in range(0, queries, 1000):
        rows = slice(start, start + 1000)
        np.testing.assert_allclose(answers[rows].sum(1), 1, atol=2e-6)
        assert (np.abs(answers[rows] - probs[rows]).sum(1) <= 0.5 + 1e-5).all()
        assert (np.abs(answers[rows] - probs[rows]).sum(1) > 0.1).all()
    return result


@pytest.mark.slow
def test_fifty_thousand_queries_take_little_memory_and_one_trace(tmp_path):
    result = _grown(tmp_path, 50_000, 10)
    assert result["traces"] == 1
    # Most of it is the compiler's.
    assert result["grown"] < 256 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize(("queries", "classes"), [(1_000_000, 10), (100_000, 1000)])
def test_a_million_queries_stay_within_a_gibibyte_and_a_half(tmp_path, queries, classes):
    result = _grown(tmp_path, queries, classes)
    assert result["traces"] == 1
    assert result["grown"] <= 1.5 * 2**30
