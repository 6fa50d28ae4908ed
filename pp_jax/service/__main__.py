"""The defended prediction service.

    python -m pp_jax.service serve --config service.toml
    python -m pp_jax.service key alice --keys runs/service/keys.toml --budget 10000
    python -m pp_jax.service example > service.toml

`serve` runs a victim of ours (`--model.weights FILE`), or stands before an Open Inference Protocol v2 server that is
there (`--model.upstream URL`). Every option of the file can be given on the command line as well, which then counts.
Exit status 2: the options cannot be served, and one line says why.
"""

import dataclasses
import logging
import sys
from pathlib import Path

import tyro

from pp_jax import _command, _files
from pp_jax.service import config as options
from pp_jax.service.config import Config
from pp_jax.service.keys import Principal, add

EXAMPLE = Path(__file__).parent / "example.toml"


@_command.command()
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words.pop(0) if words else ""
    try:
        if command == "serve":
            return _serve(words)
        if command == "key":
            return _key(words)
        if command == "example":
            print(EXAMPLE.read_text("utf-8"), end="")
            return 0
    except ModuleNotFoundError as error:
        print(f"error: the service needs {error.name}: pip install 'pp-jax[serve]'", file=sys.stderr)
        return 2
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {_command.sentence(error)}", file=sys.stderr)
        return 2
    print(__doc__, file=sys.stdout if command in ("-h", "--help") else sys.stderr)
    return 0 if command in ("-h", "--help") else 2


def _serve(words: list[str]) -> int:
    """Serve until stopped."""
    default = Config()
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    if "--config" in words:
        place = words.index("--config")
        if place + 1 == len(words):
            raise ValueError("--config needs a file")
        default = options.load(Path(words[place + 1]))
        del words[place : place + 2]
    chosen = tyro.cli(Config, default=default, args=words, description=__doc__, prog="python -m pp_jax.service serve")
    options.check(chosen)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Imported when it is known that there is something to serve: JAX and FastAPI take seconds.
    from pp_jax.service import server

    server.serve(chosen)
    return 0


@dataclasses.dataclass(frozen=True)
class _Key:
    """Make a key, keep its hash in a file, and print the key: it is shown this once."""

    name: tyro.conf.Positional[str]
    """Of the account."""
    keys: Path = Path("runs/service/keys.toml")
    """The file."""
    trusted: bool = False
    """Neither defended, watched nor metered."""
    budget: int | None = None
    """Images in all."""
    rate: int | None = None
    """Images per window."""


def _key(words: list[str]) -> int:
    """Add a key to a file, and show it once."""
    chosen = tyro.cli(_Key, args=words, prog="python -m pp_jax.service key")
    print(add(_files.expanded(chosen.keys), Principal(chosen.name, chosen.trusted, chosen.budget, chosen.rate)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
