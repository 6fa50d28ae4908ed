"""Other processes that work on records, for the tests of what they may do to each other."""

import subprocess
import sys

# What a process cannot change about its environment takes seconds to find out; that is tested elsewhere.
_START = """
import os, signal, sys, time, warnings
from pp_jax import records
from pp_jax.results.records import provenance
provenance._fixed_environment = lambda: {}
FOLDER = sys.argv[1]
def write(seed, x=0):
    records.write(FOLDER, kind="k", config={"seed": seed}, result={"x": x}, timings={})
"""


def python(code, *arguments):
    """Start a Python process with records imported; the first argument is its FOLDER."""
    command = [sys.executable, "-W", "error", "-c", _START + code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*started):
    """What processes print, one list of lines each; they must end well."""
    outputs = []
    for process in started:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        outputs.append(out.splitlines())
    return outputs
