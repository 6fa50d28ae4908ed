"""The weights of one network among the names of a state dict: other names for its layers, wrappers, normalisers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pp_jax.models.network import Network
from pp_jax.models.resnet import ResNet
from pp_jax.models.vgg import VGG16BN
from pp_jax.models.wrn import WRN

# What others call the layers of these networks: pretrainedmodels, ModelGuard, and code for CIFAR.
_LAST = (r"(?:last_linear|linear)\.", "fc.")
_ALIASES: dict[type, tuple[tuple[str, str], ...]] = {
    VGG16BN: ((r"_features\.", "features."), (r"linear0\.", "classifier.0."), (r"linear1\.", "classifier.3.")),
    ResNet: (_LAST, (r"shortcut\.", "downsample.")),
    WRN: (_LAST,),
}
# ModelGuard's semi-supervised networks have a second head, which does not classify; the others count.
_UNUSED = re.compile(r"(^|\.)(rot_classifier\..*|num_batches_tracked|n_averaged)$")
_MEAN = re.compile(r"(^|\.)(new_|_|image_|pixel_|data_)?(mean|mu)$")
_STD = re.compile(r"(^|\.)(new_|_|image_|pixel_|data_)?(std|sigma)$")
# Names that a message lists.
_SHOWN = 5


class Fitted(NamedTuple):
    """Weights under the names of a network, and the normalisation of pixels that the file brings along, if any."""

    state: dict[str, np.ndarray]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


def fit(
    state: Mapping[str, np.ndarray], network: Network, names: Sequence[str], *, prefix: str | None = None
) -> Fitted:
    """Find the weights of a network in a state dict.

    Args:
        state: tensors by name, as `torch_file.read` returns them.
        network: what they are for.
        names: those of its state dict.
        prefix: what stands before them; found by itself unless there are several such networks, or others beside it.
            Given, tensors without it are left out, but for those of a normaliser.

    Returns:
        The tensors of the network under `names`, surplus ones under their own, and mean and std of a normaliser.

    Raises:
        ValueError: if there are several such networks or normalisers, other tensors beside a network behind a prefix,
            or none behind the one given.
    """
    renamed = _renamed(state, network, names)
    starts = _starts(renamed, names)
    start = starts[0] if prefix is None else prefix
    if not any(name.startswith(start) for name in renamed):
        raise ValueError(f"the state dict holds no name that begins with {prefix!r}, but {_listed(state)}")
    if prefix is None:
        _check_same(renamed, starts, names)
    copies = {one + name for one in (start, *starts) for name in names}
    rest = {name: value for name, value in renamed.items() if name not in copies and not _UNUSED.search(name)}
    means, stds = (_buffers(rest, pattern) for pattern in (_MEAN, _STD))
    mean, std = _one(means), _one(stds)
    if max((*(mean or ()), *(std or ())), default=0) > 1:  # for pixels of 0..255
        mean, std = (values and tuple(value / 255 for value in values) for values in (mean, std))
    found = {name: renamed[start + name] for name in names if start + name in renamed}
    surplus = {name: value for name, value in rest.items() if name not in means and name not in stds}
    outside = [name for name in surplus if not name.startswith(start)]
    if outside and prefix is None and len(found) == len(names):
        raise ValueError(
            f"the state dict has tensors beside the network, {_listed(outside)}: leave them out with --prefix {start} "
            "(prefix= from Python)"
        )
    if prefix is not None:
        surplus = {name: value for name, value in surplus.items() if name.startswith(prefix)}
    return Fitted({**found, **surplus}, mean, std)


def check_pixels(fitted: Fitted, network: Network) -> None:
    """Refuse a network that does not normalise pixels as the file does."""
    for name in ("mean", "std"):
        theirs, ours = getattr(fitted, name), getattr(network, name)
        if theirs is not None and not same_pixels(theirs, ours):
            raise ValueError(
                f"the state dict normalises pixels itself, with {name} {theirs}: the network must have this {name}, "
                f"not {ours}"
            )


def same_pixels(theirs: tuple[float, ...], ours: tuple[float, ...]) -> bool:
    """Whether two means or deviations agree, one entry serving all channels, up to rounding in float32."""
    fits = len(theirs) == len(ours) or 1 in (len(theirs), len(ours))
    return fits and bool(np.allclose(theirs, ours, rtol=1e-5, atol=1e-7))


def _renamed(state: Mapping[str, np.ndarray], network: Network, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The state dict with other names for the layers of the network in place of those of other authors."""
    aliases = _ALIASES.get(type(network.module), ())
    if isinstance(network.module, VGG16BN):
        last = next(name for name in sorted(names, reverse=True) if name.startswith("classifier."))
        aliases = (*aliases, (r"last_linear\.", f"{last.rpartition('.')[0]}."))
    renamed = {}
    for name, value in state.items():
        new = name
        for pattern, layer in aliases:
            new = re.sub(rf"(^|\.){pattern}", rf"\g<1>{layer}", new)
        renamed[name if new in state else new] = value
    return renamed


def _starts(state: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """What stands before the names of the network: of every whole copy, shortest first, or of most of its names."""
    ends = (names[0], names[-1])
    starts = {name.removesuffix(end) for name in state for end in ends if name == end or name.endswith(f".{end}")}
    counts = {start: sum(start + name in state for name in names) for start in {"", *starts}}
    whole = sorted((start for start, count in counts.items() if count == len(names)), key=len)
    return whole or [max(sorted(counts, key=len), key=counts.__getitem__)]


def _check_same(state: Mapping[str, np.ndarray], starts: Sequence[str], names: Sequence[str]) -> None:
    """Refuse several copies of a network with different values."""
    first = starts[0]
    for other in starts[1:]:
        if any(not np.array_equal(state[first + name], state[other + name]) for name in names):
            options = " or ".join(f"--prefix {start or repr(start)}" for start in starts)
            raise ValueError(
                f"the state dict holds {len(starts)} such networks: choose one with {options} (prefix= from Python)"
            )


def _buffers(rest: Mapping[str, np.ndarray], pattern: re.Pattern[str]) -> dict[str, tuple[float, ...]]:
    """The values of the buffers with such a name, one or one a channel; decimals that float32 blurs are restored."""
    return {
        name: tuple(float(f"{value:.7g}") for value in np.asarray(tensor, np.float64).ravel())
        for name, tensor in rest.items()
        if pattern.search(name) and tensor.size in (1, 3)
    }


def _one(buffers: Mapping[str, tuple[float, ...]]) -> tuple[float, ...] | None:
    """The values that all of them have, or None without any."""
    if len(set(buffers.values())) > 1:
        raise ValueError(f"the state dict normalises pixels in several ways, {', '.join(buffers)}: must be one")
    return next(iter(buffers.values()), None)


def _listed(names: Iterable[str]) -> str:
    """The first few names."""
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
