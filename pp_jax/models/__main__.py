"""Convert PyTorch's weights: `python -m pp_jax.models import-torch --model NAME FILE --out weights.safetensors`."""

import argparse
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pp_jax import _command, _files, models
from pp_jax.models import torch_file, torch_names, torch_wrapped
from pp_jax.results import checkpoints

_BUILDERS: dict[str, Callable[..., models.Network]] = {
    "lenet": models.lenet,
    "vgg16_bn": models.vgg16_bn,
    "resnet18": models.resnet18,
    "resnet34": models.resnet34,
    "resnet50": models.resnet50,
    "wrn_40_2": models.wrn_40_2,
}
_ABOUT = """FILE is a state dict in safetensors or as torch.save writes it, alone or in a checkpoint; nothing in it is
run. torchvision's weights for ImageNet take --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225."""
# VGG-16 for ImageNet has hidden dense layers, that for CIFAR has none.
_HIDDEN = re.compile(r"\b(classifier\.3|linear1)\.weight$")


@_command.command()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 with one line on standard error if not."""
    options = _parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    try:
        _import_torch(options)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        print(f"error: {_command.sentence(error)}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pp_jax.models", description="Weights of the networks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    convert = commands.add_parser("import-torch", help="convert a PyTorch state dict to a checkpoint", epilog=_ABOUT)
    convert.add_argument("file", type=_path, metavar="FILE", help="the state dict, the index of several, or a folder")
    convert.add_argument("--model", required=True, choices=_BUILDERS, help="what it is for")
    convert.add_argument("--out", required=True, type=_path, metavar="PATH", help="the checkpoint to write")
    convert.add_argument("--num-classes", type=int, metavar="K", help="default: as many as the file has")
    convert.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="height and width; default: what the dense layers tell of lenet and vgg16_bn, 32 for wrn_40_2 and a small "
        "stem, else 224",
    )
    convert.add_argument("--stem", choices=("imagenet", "small"), help="first layers of a resnet; default: the file's")
    convert.add_argument("--key", help="where in the file the weights are, if it holds several: state_dict_ema")
    convert.add_argument("--prefix", help="what their names begin with, if there are several: student.")
    for name in ("--mean", "--std"):
        about = "of each channel, in pixels of [0, 1]; default: of the file's own normaliser, else none is applied"
        convert.add_argument(name, type=_numbers, metavar="X [X X]", help=about)
    return parser


def _path(text: str) -> Path:
    """A path, ~ being the home folder."""
    return _files.expanded(text)


def _numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    if not all(map(_is_number, text.split(","))):
        raise argparse.ArgumentTypeError(f"must be one number, or one a channel as 0.485 0.456 0.406, not {text!r}")
    return tuple(map(float, text.split(",")))


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--mean A B C` as `--mean=A,B,C`, so that FILE may stand behind the numbers."""
    joined: list[str] = []
    rest = list(arguments)
    while rest:
        joined.append(rest.pop(0))
        values = []
        while joined[-1] in ("--mean", "--std") and rest and _is_number(rest[0]):
            values.append(rest.pop(0))
        if values:
            joined[-1] += f"={','.join(values)}"
    return joined


def _is_number(text: str) -> bool:
    """Whether this can be a mean."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _import_torch(options: argparse.Namespace) -> None:
    """Convert a state dict and say what it was."""
    _files.check_replaceable(options.out, mark=checkpoints.FORMAT.encode())
    state, settings = _fitted(options)
    build = _BUILDERS[options.model]
    kernel = torch_names.first_kernel(state, build(**settings))
    classes = options.num_classes
    if classes is None:
        classes = torch_names.num_classes(state, build(**settings))
    size = _image_size(options, state, settings)
    image_shape = (size, size, kernel[1] if kernel else 3)
    variables = torch_names.convert(state, build(classes, **settings), image_shape)
    metadata = {
        "model": options.model,
        "num_classes": classes,
        "image_shape": image_shape,
        **settings,
        "source": options.file.name,
        "source_sha256": torch_file.sha256(options.file),
    }
    checkpoints.save(options.out, variables, metadata=metadata)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    pixels = f"mean {settings['mean']}, std {settings['std']}"
    if (settings["mean"], settings["std"]) == ((0.0,), (1.0,)):
        pixels = "pixels of [0, 1] not normalised (--mean, --std)"
    print(
        f"wrote {options.out}: {options.model}, {classes} classes, {parameters} parameters, images {image_shape}, "
        f"{pixels}"
    )


def _fitted(options: argparse.Namespace) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors under the network's names, and arguments of the network besides the number of classes."""
    state = torch_file.read(options.file, key=options.key)
    settings: dict[str, Any] = {}
    size = _image_size(options, state, settings)
    if options.model == "vgg16_bn":
        settings["image_size"] = size
    plain = _BUILDERS[options.model](**settings)
    expected = torch_names.expected_names(plain, (size, size, 3))
    fitted = torch_wrapped.fit(state, plain, expected, prefix=options.prefix)
    if options.model.startswith("resnet"):
        kernel = torch_names.first_kernel(fitted.state, plain)
        settings["small_images"] = options.stem == "small" if options.stem else kernel[2:] == (3, 3)
    for name, default in (("mean", (0.0,)), ("std", (1.0,))):
        settings[name] = _pixels(name, getattr(options, name), getattr(fitted, name), default)
    for name, other in (("mean", "std"), ("std", "mean")):
        if len(settings[name]) == 1:
            settings[name] *= len(settings[other])
    return fitted.state, settings


def _pixels(
    name: str, given: tuple[float, ...] | None, found: tuple[float, ...] | None, default: tuple[float, ...]
) -> tuple[float, ...]:
    """Mean or deviation: as given, or the file's own, which must agree."""
    if given is not None and found is not None and not torch_wrapped.same_pixels(found, given):
        raise ValueError(f"--{name} is {given}, but the file normalises pixels itself, with {found}: leave it out")
    return given or found or default


def _image_size(options: argparse.Namespace, state: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> int:
    """Height and width of the images: as given, what the file says, or the usual ones."""
    if options.image_size is not None:
        return options.image_size
    if options.model == "lenet":
        side = math.isqrt(state["fc1.weight"].shape[-1] // 50) if "fc1.weight" in state else 4
        # Two convolutions without padding and two poolings leave this many pixels of the side.
        return 4 * side + 12
    if options.model == "vgg16_bn":
        return 224 if any(_HIDDEN.search(name) for name in state) else 32
    return 32 if options.model == "wrn_40_2" or settings.get("small_images", options.stem == "small") else 224


if __name__ == "__main__":
    sys.exit(main())
