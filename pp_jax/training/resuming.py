"""Training that survives being killed: its state is kept in a folder, where the next process finds it."""

import contextlib
import errno
import functools
import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pp_jax import _files
from pp_jax._checks import check_random_key
from pp_jax.training import sealing
from pp_jax.training.contracts import Loss, Trainable
from pp_jax.training.fingerprint import owner_of
from pp_jax.training.fitting import State, as_data, as_targets_of, fit, outputs_of, start
from pp_jax.training.losses import SUPERVISED
from pp_jax.training.recipe import Recipe
from pp_jax.types import Params

_KEPT = 2
_OVERHEAD = 1 << 20  # bytes of a checkpoint that are not of its arrays, at most


def fit_resumably(
    folder: str | os.PathLike[str],
    key: jax.Array,
    network: Trainable,
    images: Any,
    targets: Any,
    recipe: Recipe,
    *,
    identity: Mapping[str, Any],
    loss: Loss = SUPERVISED,
    unlabelled: Any = None,
    params: Params | None = None,
    on_epoch: Callable[[State, float], None] | None = None,
    every_s: float = 0.0,
) -> Params:
    """Train as `fit` does, and go on after the last kept epoch when the process before was killed.

    Formal guarantees: a training that was killed any number of times ends with the parameters of one that was not, bit
    for bit on the same machine; no clock has a part in them. Of two processes on one folder the second waits for the
    first, also for one that dies. A checkpoint counts only if the SHA-256 over its files is the one that it was sealed
    with: of the two that are kept the newest whole one is taken, of none training starts anew.

    Args:
        folder: of the checkpoints (`orbax`), made when missing. They are in a folder of their own in it,
            `pp_jax-training`, of no use after the training; what else is there is neither read nor removed.
        key: as for `fit`, like `network`, `images`, `targets`, `recipe`, `loss`, `unlabelled`, `params` and
            `on_epoch`.
        identity: JSON values: what determines the training and cannot be compared, such as what a function of the
            recipe does. The folder belongs to it, and to the key, network, recipe, loss, images and targets: their
            values are compared, functions and classes that are no dataclasses by name. More epochs go on.
        every_s: seconds from the beginning to the first checkpoint, and from one to the next, at least; 0 keeps every
            epoch. A training that takes less touches orbax never.

    Returns:
        The trained parameters, after the last epoch.

    Raises:
        ValueError: as `fit`; for an identity without a JSON form; for a folder of another training, or with more epochs
            than the recipe has and no checkpoint of its last, both of which stay as they are; for `every_s` out of
            range.
        OSError: the folder cannot be written or its disk is full; the checkpoints that it has stay.
    """
    if not 0 <= every_s < math.inf:
        raise ValueError(f"every_s must be at least 0 and finite, not {every_s}")
    check_random_key(key)
    images, unlabelled = as_data(images, targets, unlabelled, recipe)
    folder = _files.expanded(folder)
    like = jax.eval_shape(lambda: start(key, network, np.shape(images)[1:], recipe.optimizer(1), params=params)[:2])
    targets = as_targets_of(loss, outputs_of(network, like[0], images), targets, np.shape(images)[:1])
    owner = owner_of(
        identity, key, network, images, targets, recipe, loss=loss, unlabelled=unlabelled, params=params, like=like
    )
    _files.check_writable(folder)
    own = sealing.open_folder(folder)
    with _locked(own):
        epoch = sealing.newest_whole(own, owner, most=recipe.epochs)
        if epoch is None:
            sealing.warn_of_old(folder)
        with contextlib.ExitStack() as stack:
            writer = functools.cache(lambda: stack.enter_context(_opened()))
            state = None if epoch is None else _restore(writer(), own / str(epoch), like)
            kept_at = time.monotonic()

            def keep(state: State, loss: float) -> None:
                nonlocal kept_at
                if time.monotonic() - kept_at >= every_s:
                    _save(writer(), own, state, owner)
                    kept_at = time.monotonic()
                if on_epoch is not None:
                    on_epoch(state, loss)

            fresh = params if state is None else None
            options: dict[str, Any] = {"loss": loss, "unlabelled": unlabelled, "params": fresh, "state": state}
            return fit(key, network, images, targets, recipe, **options, on_epoch=keep)


@contextlib.contextmanager
def _locked(own: Path) -> Iterator[None]:
    """Wait until no other living process trains here; the operating system frees the lock of a dead one."""
    import filelock

    with filelock.FileLock(own / "lock", fallback_to_soft=False):
        yield


@contextlib.contextmanager
def _opened() -> Iterator[Any]:
    """orbax's reader and writer of one checkpoint; its manager of many would remove what others wrote beside ours."""
    with _quiet():
        # Here, since it is needed by those alone who resume: it takes as long to import as half of JAX.
        import orbax.checkpoint as ocp

        writer = ocp.Checkpointer(ocp.StandardCheckpointHandler())
    try:
        yield writer
    finally:
        with _quiet():
            writer.close()


def _save(writer: Any, own: Path, state: State, owner: Mapping[str, Any]) -> None:
    """Write a checkpoint, seal it when it is whole, and remove all but the newest ones."""
    import orbax.checkpoint as ocp

    tree = jax.tree.map(lambda leaf: np.array(_plain(leaf)), state[:2])
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    path = own.absolute() / str(state.epoch)
    try:
        _check_room(own, size + _OVERHEAD)
        path.mkdir(exist_ok=True)
        with _quiet():
            writer.save(path / sealing.STATE, args=ocp.args.StandardSave(_named(tree)))
        sealing.write_seal(path, owner)
    except (OSError, ValueError) as error:
        reason = _system_error(error)
        if reason is None:
            raise
        _give_up(path)
        raise OSError(
            reason,
            f"cannot keep the state of training in {own.parent} ({os.strerror(reason)}): it must be writable, with "
            f"room for {_KEPT + 1} checkpoints of {size / 1e6:.1f} MB; those that it has stay: the same call goes on",
        ) from error
    for epoch in sealing.epochs(own)[_KEPT:]:
        sealing.forget(own / str(epoch))


def _give_up(path: Path) -> None:
    """Remove a checkpoint that could not be written; for a moment orbax's threads may still be at it."""
    for _ in range(40):
        sealing.forget(path)
        if not path.exists():
            return
        time.sleep(0.05)


def _check_room(folder: Path, size: int) -> None:
    """Refuse to begin what the disk cannot hold: orbax would fail half-way, with tracebacks of its threads."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with tempfile.TemporaryFile(dir=folder) as file:  # has no name: nothing of it can be left
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # some file systems cannot tell
                raise


def _system_error(error: OSError | ValueError) -> int | None:
    """The number of the system's error; orbax passes those of its C++ parts on as text in a `ValueError`."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return None if found is None else int(found[1])


def _restore(writer: Any, path: Path, like: Any) -> State:
    """The state after an epoch, on the host, its random keys being keys again."""
    import orbax.checkpoint as ocp

    target = jax.tree.map(lambda leaf: np.empty(*_shape_and_type(leaf)), like)
    with _quiet():
        found = writer.restore(path.absolute() / sealing.STATE, args=ocp.args.StandardRestore(_named(target)))
    params, optimizer = jax.tree.map(
        lambda leaf, kept: jax.random.wrap_key_data(kept) if _is_key(leaf) else kept,
        like,
        (found["params"], found["optimizer"]),
    )
    return State(params, optimizer, int(path.name))


def _named(tree: Any) -> dict[str, Any]:
    """The pair of a state's trees as orbax stores it."""
    params, optimizer = tree
    return {"params": params, "optimizer": optimizer}


def _plain(leaf: Any) -> Any:
    """An array as it is; random keys as their numbers: orbax stores arrays of numbers."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _shape_and_type(leaf: Any) -> tuple[tuple[int, ...], Any]:
    numbers = jax.eval_shape(_plain, leaf)
    return numbers.shape, numbers.dtype


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep orbax's log away from the user's terminal: its errors come as exceptions as well."""
    log = logging.getLogger("absl")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
