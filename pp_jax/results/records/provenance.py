"""Where a record comes from: versions, device, revision, command, time; no host name."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pp_jax._version import __version__

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def environment() -> dict[str, Any]:
    """What a reader needs to repeat a run: versions, device, machine, git revision, command, UTC time."""
    return {**_fixed_environment(), "time": datetime.now(UTC).isoformat(timespec="seconds")}


@functools.cache
def _fixed_environment() -> dict[str, Any]:
    """The part of the environment that a process cannot change."""
    import jax  # here, so that reading records does not wait for it

    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "versions": {"pp_jax": __version__, **versions, "python": platform.python_version()},
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "device_count": jax.device_count(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "git_revision": _git_revision(),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
    }


def _git_revision() -> str | None:
    """The commit this package runs from (``-dirty`` when edited), or None outside its own repository."""
    package = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return os.fsdecode(subprocess.run(command, capture_output=True, check=True, timeout=10).stdout).strip()

    try:
        # An environment inside another project's repository must not pass that project's commit off as ours.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != package.parent:
            return None
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
