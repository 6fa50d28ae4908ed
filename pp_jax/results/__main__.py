"""List, show and export records: `python -m pp_jax.results list|show|export`."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from pp_jax import _command, _files
from pp_jax.results import records
from pp_jax.results.records import exporting, showing


@_command.command()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 with one line on standard error if not."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        print(f"error: {_command.sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing half-written is left", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pp_jax.results", description="Records of experiments.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="a line a record: what differs and what came out")
    listing.set_defaults(run=_list)
    show = commands.add_parser("show", help="one record: configuration, results, timings, environment")
    show.add_argument("name", metavar="RECORD", help="FOLDER/NAME.json, or NAME or the beginning of it with --folder")
    show.add_argument("--folder", type=Path, default=Path(), help="where NAME is; default: here")
    show.set_defaults(run=_show)
    export = commands.add_parser("export", help="one table of all records, without their images")
    export.add_argument("--out", required=True, type=Path, metavar="FILE", help="a .csv or .parquet file")
    export.set_defaults(run=_export)
    for command in (listing, export):
        command.add_argument("folder", type=Path, metavar="FOLDER", help="of the records")
        command.add_argument("--kind", help="only records of this kind")
    return parser


def _list(options: argparse.Namespace) -> int:
    """Print the records of a folder, then the damaged ones; 1 if there are any of these."""
    from rich import console

    whole, damaged = _read(options.folder, options.kind)
    screen = console.Console(width=1000)  # a narrow terminal breaks lines, a folded column would break numbers
    for table in showing.tables(whole):
        screen.print(table)
    return _report(damaged, sys.stdout)


def _show(options: argparse.Namespace) -> int:
    """Print one record."""
    wanted = _files.expanded(options.folder / options.name)
    if wanted.is_dir():
        wanted = _completed(wanted, "")
    elif not wanted.is_file():
        wanted = _completed(wanted.parent, wanted.name.removesuffix(".json"))
    for line in showing.describe(records.load(wanted)):
        print(line)
    return 0


def _export(options: argparse.Namespace) -> int:
    """Write the table; 1 if damaged records are missing from it."""
    exporting.writer(options.out)  # a bad ending is told before thousands of records are read
    _files.check_replaceable(options.out)
    whole, damaged = _read(options.folder, options.kind)
    if not whole:
        raise damaged[0]
    exporting.export(options.out, whole)
    print(f"{options.out}: {len(whole)} records")
    return _report(damaged, sys.stderr)


def _read(folder: Path, kind: str | None) -> tuple[list[records.Record], list[records.Damaged]]:
    """The whole records of a kind and all damaged ones, or a `ValueError` that says why there are none."""
    folder = _files.expanded(folder)
    _check_folder(folder)
    found = list(records.scan(folder))
    damaged = [each for each in found if isinstance(each, records.Damaged)]
    whole = [each for each in found if isinstance(each, records.Record)]
    chosen = [record for record in whole if kind in (None, record.kind)]
    if not found:
        raise ValueError(f"{folder} holds no records")
    if not chosen and whole:
        kinds = ", ".join(sorted({record.kind for record in whole}))
        raise ValueError(f"{folder} holds no records of kind {kind!r}: there are {kinds}")
    return chosen, damaged


def _completed(folder: Path, prefix: str) -> Path:
    """The one record whose name begins so."""
    _check_folder(folder)
    names = [path for path in sorted(folder.glob("*.json")) if path.name.startswith(prefix)]
    if len(names) == 1:
        return names[0]
    if not names:
        raise ValueError(f"{folder} holds no record whose name begins with {prefix!r}: list shows those it holds")
    some = ", ".join(path.stem for path in names[:3])
    raise ValueError(f"{prefix!r} begins {len(names)} names in {folder} ({some}{', …' * (len(names) > 3)}): give more")


def _check_folder(folder: Path) -> None:
    """Refuse what is no folder."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")


def _report(damaged: Iterable[records.Damaged], stream: TextIO) -> int:
    """Say which records are damaged, and why."""
    status = 0
    for error in damaged:
        print(error, file=stream)
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
