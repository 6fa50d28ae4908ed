"""`python -m pp_jax.records` is `python -m pp_jax.results`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("pp_jax.results", run_name="__main__", alter_sys=True)
