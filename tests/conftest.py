"""Strict settings for every test: no silent rank promotion, no random examples; what tests of the scripts share."""

import os
from importlib.metadata import version
from pathlib import Path

# Most of the tests' time is XLA's, for programs that run once: nothing is optimised, and elementwise code is emitted in
# the older, quicker way where there still is one (jaxlib ends a process that gives it a flag it lacks). Set before JAX
# is imported; `XLA_FLAGS= pytest` is at full speed.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + " --xla_cpu_use_fusion_emitters=false" * (tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11)),
)

import chex
import hypothesis
import jax
import pytest

from scripts import prepare_stripes

jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("fixed")

MAPPINGS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def _traces_are_counted_anew():
    """`chex.assert_max_traces` counts by the place of a definition: the cases of one test must not add up."""
    chex.clear_trace_counter()


@pytest.fixture(scope="module", autouse=True)
def _compiled_code_is_let_go():
    """Frees what files of tests have compiled before a worker reaches Linux's limit, 65 530 mappings a process."""
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A data directory with the stripes prepared in it."""
    return prepare_stripes(tmp_path_factory.mktemp("data"))
