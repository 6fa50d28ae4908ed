"""What has been compiled once is not compiled again by the next process."""

import pytest

from lives import SWEEP
from scripts import prepare_stripes, script


@pytest.mark.slow
def test_a_warm_second_run_compiles_nothing_new(tmp_path):
    data_dir, cache = prepare_stripes(tmp_path / "data"), tmp_path / "compiled"
    environment = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    programs = []
    for runs in ("first", "second"):
        status, text = script(
            "worst_case.py", "--runs", tmp_path / runs, *SWEEP, data_dir=data_dir, environment=environment
        )
        assert status == 0, text
        programs.append({path.name for path in cache.glob("*-cache")})
    assert len(programs[0]) > 20
    assert programs[1] == programs[0]
