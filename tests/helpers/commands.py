"""Commands in a process of their own, in an environment that a test chooses."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# One process runs several commands: most of what each takes is spent on imports.
_DRIVER = """
import importlib, json, sys
for module, *words in json.loads(sys.argv[1]):
    sys.argv = [module, *words]
    try:
        status = importlib.import_module(module).main() or 0
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    print("status", status or 0, flush=True)
"""


def environment(**variables):
    """The variables of this process with some changed, or removed where they are None."""
    known = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "", **variables}
    return {name: str(value) for name, value in known.items() if value is not None}


def run(*commands, start="", cwd=None, **variables):
    """Run commands, each a module and its arguments; their statuses, and all that they printed."""
    words = [[str(word) for word in command] for command in commands]
    done = subprocess.run(
        [sys.executable, "-c", start + _DRIVER, json.dumps(words, ensure_ascii=False)],
        capture_output=True,
        env=environment(**variables),
        cwd=cwd,
        timeout=120,
        check=False,
    )
    out, err = done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode("utf-8", "surrogateescape")
    assert done.returncode == 0, err
    return [int(line.split()[1]) for line in out.splitlines() if line.startswith("status ")], out, err
