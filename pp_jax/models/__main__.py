"""Convert PyTorch's weights: `python -m pp_jax.models import-torch --model NAME FILE --out weights.safetensors`."""

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from pp_jax import _command, models
from pp_jax.models import torch_file, torch_names
from pp_jax.results import checkpoints

_BUILDERS: dict[str, Callable[..., models.Network]] = {
    "lenet": models.lenet,
    "vgg16_bn": models.vgg16_bn,
    "resnet18": models.resnet18,
    "resnet34": models.resnet34,
    "resnet50": models.resnet50,
    "wrn_40_2": models.wrn_40_2,
}
_ABOUT = """FILE is a state dict in safetensors or as torch.save writes it; nothing in it is run. torchvision's weights
for ImageNet take --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225."""


@_command.command()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 with one line on standard error if not."""
    options = _parser().parse_args(arguments)
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
    convert.add_argument("file", type=Path, metavar="FILE", help="the state dict")
    convert.add_argument("--model", required=True, choices=_BUILDERS, help="what it is for")
    convert.add_argument("--out", required=True, type=Path, metavar="PATH", help="the checkpoint to write")
    convert.add_argument("--num-classes", type=int, metavar="K", help="default: as many as the file has")
    convert.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="height and width; default: 28 for lenet, 32 for wrn_40_2 and behind a small stem, else 224",
    )
    convert.add_argument(
        "--stem", choices=("imagenet", "small"), default="imagenet", help="first layers of a resnet; default: imagenet"
    )
    convert.add_argument("--mean", type=float, nargs="+", default=[0.0], help="of each channel, in pixels of [0, 1]")
    convert.add_argument("--std", type=float, nargs="+", default=[1.0], help="of each channel, in pixels of [0, 1]")
    return parser


def _import_torch(options: argparse.Namespace) -> None:
    """Convert a state dict and say what it was."""
    state = torch_file.read(options.file)
    settings = _settings(options)
    build = _BUILDERS[options.model]
    classes = options.num_classes
    if classes is None:
        classes = torch_names.num_classes(state, build(**settings))
    size = _image_size(options)
    image_shape = (size, size, 1 if options.model == "lenet" else 3)
    variables = torch_names.convert(state, build(classes, **settings), image_shape)
    with options.file.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    metadata = {
        "model": options.model,
        "num_classes": classes,
        "image_shape": image_shape,
        **settings,
        "source": options.file.name,
        "source_sha256": digest,
    }
    checkpoints.save(options.out, variables, metadata=metadata)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    print(f"wrote {options.out}: {options.model}, {classes} classes, {parameters} parameters, images {image_shape}")


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the network besides the number of classes."""
    settings: dict[str, Any] = {"mean": tuple(options.mean), "std": tuple(options.std)}
    if options.model == "vgg16_bn":
        settings["image_size"] = _image_size(options)
    if options.model.startswith("resnet"):
        settings["small_images"] = options.stem == "small"
    return settings


def _image_size(options: argparse.Namespace) -> int:
    """Height and width of the images: as given, or the usual ones."""
    if options.image_size is not None:
        return options.image_size
    if options.model == "lenet":
        return 28
    return 32 if options.model == "wrn_40_2" or options.stem == "small" else 224


if __name__ == "__main__":
    sys.exit(main())
