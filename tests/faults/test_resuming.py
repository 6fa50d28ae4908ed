"""A resumable training ends like one that nothing happened to, whatever happened to its process, disk or folder."""

import json
import logging
import math
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from others import strewn
from pp_jax.training import MixMatch, Privacy, Recipe, fit, fit_resumably
from pp_jax.training.augmentation import random_flip
from support import Linear, blobs

IMAGES, LABELS = blobs(0, 130)
OTHERS, _ = blobs(2, 70)
NETWORK = Linear(4)  # one object: compiled once
RECIPE = Recipe(epochs=4, batch_size=32, decay_every=2)
IDENTITY = {"data": "blobs", "epochs": 4}
OWN = "pp_jax-training"


class Killed(Exception):
    """What ends a training here in place of a signal."""


def train(folder, recipe=RECIPE, *, stop_after=None, images=IMAGES, key=0, identity=IDENTITY, labels=LABELS, **options):
    """Train in a folder; the parameters, and the epochs that were computed. Dies after an epoch if asked to."""
    epochs = []

    def hear(state, loss):
        assert np.isfinite(loss)
        epochs.append(state.epoch)
        if state.epoch == stop_after:
            raise Killed

    params = fit_resumably(
        folder, jax.random.key(key), NETWORK, images, labels, recipe, identity=identity, on_epoch=hear, **options
    )
    return params, epochs


def undisturbed(recipe=RECIPE, images=IMAGES, **options):
    """The parameters that every training here must end with."""
    return fit(jax.random.key(0), NETWORK, images, LABELS, recipe, **options)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def contents(folder):
    """All files of a folder; a lock has no content of its own."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder in which a training died after its third epoch, and the parameters that it was to end with."""
    folder = tmp_path_factory.mktemp("stopped") / "training"
    with pytest.raises(Killed):
        train(folder, stop_after=3)
    return folder, undisturbed()


@pytest.fixture
def copy(stopped, tmp_path):
    """A folder of one's own in which a training died after its third epoch."""
    return shutil.copytree(stopped[0], tmp_path / "training")


def _noise(key, image):
    return jnp.clip(image + 0.1 * jax.random.normal(key, image.shape, image.dtype), 0, 1)


def test_one_that_is_not_disturbed_ends_as_fit_does_and_keeps_two_epochs(tmp_path):
    params, epochs = train(tmp_path / "deep" / "er")
    same(params, undisturbed())
    assert epochs == [1, 2, 3, 4]
    assert sorted(path.name for path in (tmp_path / "deep" / "er" / OWN).iterdir() if path.is_dir()) == ["3", "4"]


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        (RECIPE, {}),
        (Recipe(epochs=4, batch_size=32, rule=optax.adam, learning_rate=0.01), {}),
        (Recipe(epochs=4, batch_size=32, privacy=Privacy(1.0, 0.5)), {}),
        (Recipe(epochs=4, batch_size=32, augment=_noise, weight_decay=0.01, momentum=0.0), {}),
        (RECIPE, {"params": {"params": {"kernel": jnp.ones((36, 4), jnp.bfloat16), "bias": jnp.zeros(4)}}}),
        (RECIPE, {"loss": MixMatch(augment=random_flip), "unlabelled": OTHERS}),
    ],
    ids=["sgd", "adam", "dp-sgd", "augmented", "warm start in bfloat16", "semi-supervised"],
)
def test_one_that_dies_after_every_epoch_ends_the_same_bit_for_bit(recipe, options, tmp_path):
    for epoch in range(1, 5):
        with pytest.raises(Killed):
            train(tmp_path, recipe, stop_after=epoch, **options)
    params, epochs = train(tmp_path, recipe, **options)
    same(params, undisturbed(recipe, **options))
    assert epochs == []  # The last epoch had been kept: nothing was left to do.


def test_each_life_computes_only_what_is_not_kept(copy, stopped):
    params, epochs = train(copy)
    assert epochs == [4]
    same(params, stopped[1])


@pytest.mark.parametrize("every_s", [1e-9, 3600.0])
def test_how_often_is_kept_does_not_change_the_result(every_s, tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, stop_after=3, every_s=every_s)
    params, epochs = train(tmp_path, every_s=every_s)
    same(params, undisturbed())
    assert epochs == ([4] if every_s < 1 else [1, 2, 3, 4])
    assert (tmp_path / OWN / "4" / "seal.json").exists() == (every_s < 1)


def damaged(path, rng):
    """One flipped bit somewhere in the files of a checkpoint."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.stat().st_size)
    file = rng.choice(files)
    content = bytearray(file.read_bytes())
    place = rng.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    file.write_bytes(content)


def resumed(folder):
    """Train on; the parameters, the epochs computed, and what was warned of."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        params, epochs = train(folder)
    return params, epochs, [str(warning.message) for warning in heard]


@pytest.mark.slow
def test_a_flipped_bit_in_20_random_places_of_the_newest_costs_one_epoch(stopped, tmp_path):
    rng, found = random.Random(0), 0
    for number in range(20):
        folder = shutil.copytree(stopped[0], tmp_path / str(number))
        damaged(folder / OWN / "3", rng)
        params, epochs, heard = resumed(folder)
        same(params, stopped[1])
        assert epochs == [3, 4]
        assert len(heard) == 1
        assert f"{folder}: the checkpoint of epoch 3 " in heard[0]
        assert heard[0].endswith(": training goes on after epoch 2")
        found += 1
    assert found == 20


def test_a_newest_that_is_cut_short_in_any_file_costs_one_epoch(stopped, tmp_path):
    files = [path.relative_to(stopped[0]) for path in contents(stopped[0] / OWN / "3") if path.stat().st_size]
    assert len(files) >= 8
    for number, file in enumerate(files):
        folder = shutil.copytree(stopped[0], tmp_path / str(number))
        (folder / file).write_bytes((folder / file).read_bytes()[:-1])
        params, epochs, heard = resumed(folder)
        same(params, stopped[1])
        assert (epochs, len(heard)) == ([3, 4], 1)


@pytest.mark.parametrize("seal", [b"", b"\x00\xff", b"[]", b'{"sha256": "0"}', b"[" * 100_000])
def test_a_newest_with_a_damaged_seal_costs_one_epoch(seal, copy, stopped):
    (copy / OWN / "3" / "seal.json").write_bytes(seal)
    params, epochs, heard = resumed(copy)
    same(params, stopped[1])
    assert (epochs, len(heard)) == ([3, 4], 1)


def test_two_damaged_ones_are_one_warning_and_a_training_from_the_start(copy, stopped):
    rng = random.Random(1)
    damaged(copy / OWN / "2", rng)
    damaged(copy / OWN / "3", rng)
    params, epochs, heard = resumed(copy)
    same(params, stopped[1])
    assert epochs == [1, 2, 3, 4]
    assert len(heard) == 1
    assert "epoch 3" in heard[0]
    assert "epoch 2" in heard[0]
    assert heard[0].endswith("training goes on anew")


def test_one_that_was_not_yet_sealed_when_its_process_was_killed_is_dropped_without_a_word(copy, stopped):
    (copy / OWN / "3" / "seal.json").unlink()
    shutil.copytree(copy / OWN / "2" / "state", copy / OWN / "4" / "state.orbax-checkpoint-tmp")
    params, epochs = train(copy)
    same(params, stopped[1])
    assert epochs == [3, 4]
    assert not list(copy.rglob("*tmp*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"identity": {**IDENTITY, "epochs": 5}}, 'holds the training of {"data": "blobs", "epochs": 4}, not of'),
        ({"identity": {}}, "not of {}: must be another folder"),
        ({"key": 1}, "holds a training with another key: must be another folder"),
        ({"recipe": Recipe(epochs=4, batch_size=32, decay_every=2, rule=optax.adam)}, "with another recipe: must"),
        ({"recipe": Recipe(epochs=4, batch_size=32, decay_every=2, learning_rate=0.01)}, "with another recipe: must"),
        ({"recipe": Recipe(epochs=4, batch_size=32, decay_every=2, augment=random_flip)}, "with another recipe: must"),
        ({"images": np.repeat(IMAGES, 2, axis=1)}, "with another network, another recipe, other images: must"),
        ({"images": 1 - IMAGES}, "with other images: must"),
        ({"labels": 3 - LABELS}, "with other targets: must"),
        ({"loss": MixMatch(augment=random_flip), "unlabelled": OTHERS}, "another loss, other unlabelled images"),
        ({"params": {"params": {"kernel": jnp.ones((36, 4)), "bias": jnp.zeros(4)}}}, "with another warm start: must"),
        ({"recipe": Recipe(epochs=2, batch_size=32)}, "another recipe"),
        ({"identity": {"data": object()}}, "identity must have a JSON form"),
        ({"identity": {"rate": math.nan}}, "identity must have a JSON form"),
        ({"every_s": -1.0}, "every_s must be at least 0 and finite, not -1.0"),
        ({"every_s": math.nan}, "every_s must be at least 0 and finite, not nan"),
        ({"images": IMAGES[:7]}, "must be as many, at least 1: 7 and 130"),
    ],
)
def test_the_folder_of_another_training_is_refused_and_nothing_is_lost(options, message, copy):
    before = contents(copy)
    with pytest.raises(ValueError) as refusal:
        train(copy, **options)
    assert message in str(refusal.value)
    assert contents(copy) == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # TensorStore's, if not told beforehand
@pytest.mark.parametrize("told_beforehand", [True, False])
def test_a_full_disk_is_one_clear_error_and_the_same_call_goes_on(told_beforehand, tmp_path, capfd, monkeypatch):
    if not told_beforehand:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    images = np.random.default_rng(0).uniform(size=(130, 100, 100, 1)).astype(np.float32)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(state, loss):
        if state.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))

    try:
        with pytest.raises(OSError, match=r"cannot keep the state of training in .* \(File too large\): it must be wr"):
            fit_resumably(
                tmp_path, jax.random.key(0), NETWORK, images, LABELS, RECIPE, identity=IDENTITY, on_epoch=fill
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in (tmp_path / OWN).iterdir() if path.is_dir()) == ["1", "2"]
    if told_beforehand:
        assert capfd.readouterr() == ("", "")  # Nothing but the exception.
    assert "absl" not in capfd.readouterr().err  # orbax's own log stays out of the terminal.
    assert not logging.getLogger("absl").disabled
    params, epochs = train(tmp_path, images=images)
    assert epochs == [3, 4]
    same(params, undisturbed(images=images))


def test_fewer_epochs_are_the_parameters_of_that_epoch_or_refused(tmp_path):
    train(tmp_path, Recipe(epochs=4, batch_size=32))
    before = contents(tmp_path)
    params, epochs = train(tmp_path, Recipe(epochs=3, batch_size=32))
    assert epochs == []
    same(params, undisturbed(Recipe(epochs=3, batch_size=32)))
    with pytest.raises(ValueError, match="holds 4 epochs of this training, and the recipe asks for 2: must be another"):
        train(tmp_path, Recipe(epochs=2, batch_size=32))
    assert contents(tmp_path) == before
    params, epochs = train(tmp_path, Recipe(epochs=5, batch_size=32))
    assert epochs == [5]
    same(params, undisturbed(Recipe(epochs=5, batch_size=32)))


def test_what_others_have_in_the_folder_is_neither_read_nor_removed(tmp_path):
    others = strewn(tmp_path)
    with pytest.raises(Killed):
        train(tmp_path, stop_after=2)
    others |= strewn(tmp_path / OWN)
    params, epochs = train(tmp_path)
    assert epochs == [3, 4]
    same(params, undisturbed())
    assert {path: path.read_bytes() for path in others} == others


def test_orbax_steps_of_others_stay_and_can_be_read(tmp_path):
    import orbax.checkpoint as ocp

    for step in (1, 2, 500):
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as writer:
            writer.save(tmp_path / str(step), args=ocp.args.StandardSave({"w": np.full(3, float(step))}))
    before = contents(tmp_path)
    train(tmp_path)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("there", ["a file", "a folder", "a link"])
def test_something_else_under_the_name_of_our_own_folder_is_refused(there, tmp_path):
    own, other = tmp_path / "training" / OWN, tmp_path / "other"
    other.mkdir()
    (other / "precious").write_text("precious")
    own.parent.mkdir()
    if there == "a file":
        own.write_text("precious")
    elif there == "a folder":
        shutil.copytree(other, own)
    else:
        own.symlink_to(other)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="is there and keeps no checkpoints of a training of ours: it is left"):
        train(own.parent)
    assert contents(tmp_path) == before


def test_checkpoints_of_version_0_1_stay_and_are_spoken_of(copy, stopped, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(copy / OWN / "3", old / "3")
    before = contents(old)
    params, epochs, heard = resumed(old)
    assert epochs == [1, 2, 3, 4]
    same(params, stopped[1])
    assert heard == [f"{old} has checkpoints of version 0.1, which are left as they are: training begins anew"]
    assert {path: path.read_bytes() for path in before} == before


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_epoch(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write .*file.training.* its folder must be writable"):
        train(tmp_path / "file" / "training")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_second_process_waits_for_the_first_and_goes_on_at_once_when_that_is_killed(copy, stopped):
    hold = "import filelock, sys, time\nwith filelock.FileLock(sys.argv[1]): print('held', flush=True), time.sleep(99)"
    command = [sys.executable, "-c", hold, str(copy / OWN / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        results = []
        waiting = threading.Thread(target=lambda: results.append(train(copy)))
        waiting.start()
        time.sleep(1)
        assert waiting.is_alive()
        assert not results
        holder.kill()
        waiting.join(30)
    (params, epochs) = results[0]
    same(params, stopped[1])
    assert epochs == [4]


def test_two_at_once_compute_every_epoch_once(tmp_path):
    results = []
    threads = [threading.Thread(target=lambda: results.append(train(tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(epochs for _, epochs in results) == [[], [1, 2, 3, 4]]
    for params, _ in results:
        same(params, undisturbed())


def test_orbax_is_imported_by_those_who_resume_alone():
    command = "import sys, pp_jax.training; print('orbax.checkpoint' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def test_a_seal_says_whose_checkpoint_it_is(copy):
    seal = json.loads((copy / OWN / "3" / "seal.json").read_text())
    assert seal["identity"] == IDENTITY
    assert len(seal["sha256"]) == 64
    assert {len(digest) for digest in seal["training"].values()} == {16}
