"""Prepare, list and describe image sets: `python -m pp_jax.data prepare|list|info`."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pp_jax import _command
from pp_jax.data.types import DataError

_FORMATS = """PATH is a folder, a zip or tar archive (also .tar.gz, .tar.bz2, .tar.xz), or a file of: IDX files (MNIST
and its like); CIFAR's binary version, or mosaics <split>/<class>.webp of 32x32 tiles; SVHN's .mat files; an .npz of
images, labels and class_names, or of x_train, y_train, x_test and y_test; tables train.csv and test.csv of a label and
28x28 pixels a row; images <split>/<class>/<image> or <class>/<image> of any format that Pillow reads. docs/data.md has
the forms of each set. The last line says what was left out of a set and why."""


@_command.command()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 with one line on standard error if not."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except BrokenPipeError:
        raise
    except (DataError, ValueError, OSError) as error:
        print(f"error: {_command.sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing half-written is left", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pp_jax.data", description="Image sets in TFDS's format.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    prepare = commands.add_parser("prepare", help="fetch or read a set, check it and store it", epilog=_FORMATS)
    prepare.add_argument("name", nargs="+", help="names of sets; see `list`")
    prepare.add_argument(
        "--from", dest="source", type=Path, metavar="PATH", help="file, folder or archive to read from"
    )
    prepare.add_argument("--size", type=int, help="crop and resample an image folder's images to SIZE × SIZE")
    prepare.add_argument(
        "--force", action="store_true", help="prepare again what was prepared here already (never TFDS's)"
    )
    prepare.set_defaults(run=_prepare)
    listing = commands.add_parser("list", help="the sets that can be prepared, and those that are")
    listing.set_defaults(run=_list)
    info = commands.add_parser("info", help="describe a prepared set and check its files")
    info.add_argument("name", help="name of a set")
    info.set_defaults(run=_info)
    for command in (prepare, listing, info):
        command.add_argument("--data-dir", type=Path, help="default: $TFDS_DATA_DIR, else ~/tensorflow_datasets")
    return parser


def _prepare(options: argparse.Namespace) -> None:
    """Prepare one or several sets, with progress bars."""
    from pp_jax.data.preparing import prepare

    if options.source is not None and len(options.name) > 1:
        raise DataError(f"--from names the files of one set, but {len(options.name)} sets are to be prepared")
    for name in options.name:
        prepare(
            name,
            source=options.source,
            data_dir=options.data_dir,
            size=options.size,
            force=options.force,
            report=_say,
            track=_track,
        )


def _list(options: argparse.Namespace) -> None:
    """Print every known or prepared set, with its state."""
    from rich import console, table

    from pp_jax.data import catalog, location

    root = location.data_dir(options.data_dir)
    ready = location.all_prepared(root)
    rows = table.Table(title=f"Image sets ({root})", title_justify="left")
    for heading in ("name", "prepared", "about"):
        rows.add_column(heading, overflow="fold")
    for name, spec in catalog.specs().items():
        rows.add_row(name, location.standing(ready[name]) if name in ready else "–", spec.about)
    for name in sorted(set(ready) - set(catalog.specs())):
        rows.add_row(name, location.standing(ready[name]), "prepared by TFDS")
    console.Console().print(rows)


def _info(options: argparse.Namespace) -> None:
    """Print a prepared set's record and check every file of it."""
    from pp_jax.data import loading

    for line in loading.describe(options.name, data_dir=options.data_dir):
        _say(line)


def _say(sentence: str) -> None:
    """Print a line at once, also when the output is a file."""
    print(sentence, flush=True)


def _track(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    """A progress bar on standard error."""
    from rich import console, progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
    )
    screen = console.Console(stderr=True)
    with progress.Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        yield from bar.track(items, total=total, description=what)


if __name__ == "__main__":
    sys.exit(main())
