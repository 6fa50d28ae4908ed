# `make demo` and `make test` do all their own set-up; they need Python >= 3.11 with pip and venv, make and git.
PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs
# Versions that were tested together; `make CONSTRAINTS=` takes the newest ones that setup.cfg allows.
CONSTRAINTS ?= constraints.txt
export TFDS_DATA_DIR ?= $(CURDIR)/data
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache
# What the experiments have compiled once is never compiled again, however quick that was.
demo reference: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
# At least a file of every package; under 3 minutes on 2 cores. What is compiled, and the rest, `make test` tries.
QUICK := README.md tests/test_import.py tests/test_pytree.py tests/data tests/geometry tests/results \
  tests/attacks/test_collect.py tests/attacks/test_seeking.py tests/defenses/test_baselines.py tests/defenses/test_ood.py \
  tests/evaluation/test_entries.py tests/evaluation/test_metrics.py tests/evaluation/test_report.py \
  tests/experiments/test_tradeoff.py tests/gram/test_jacobian.py tests/gram/test_last_layer.py tests/models/test_network.py \
  tests/models/test_torch_names.py tests/recovery/test_simple.py tests/recovery/test_selecting.py \
  tests/serving/test_blackbox.py tests/serving/test_wire.py tests/detection/test_watching.py tests/detection/test_benign.py \
  tests/service/test_keys.py tests/solvers/test_lp.py tests/solvers/test_objective.py tests/training/test_fitting.py \
  tests/training/test_losses.py tests/training/test_privacy.py
# A file of tests stays on one worker: what it compiles, it shares.
WORKERS := -n 2 --dist loadfile
DEMO := --victim.epochs 2 --victim.decay-every 1 --attack.budget 4000 --attack.epochs 6 --folder demo

CASES ?= 20000

.PHONY: help demo data serve test test-slow test-peers test-exhaustive test-torch test-quick test-newest test-oldest fuzz lint types wheel bench reference clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: data  ## every defense against attackers who know it: table, worst_case.png and report.html in runs/demo
	$(PY) -m experiments.worst_case $(DEMO) --runs $(RUNS)

data: $(VENV)/base  ## prepare the demo's images, MNIST and font_letters
	$(PY) -m pp_jax.data prepare mnist font_letters

serve: data $(VENV)/serve  ## the demo's victim behind the defended prediction service; prints a curl line that works
	$(PY) -m experiments.serve --runs $(RUNS)

test: $(VENV)/test  ## the tests, 4 to 6 minutes on 2 cores
	$(PY) -m pytest $(WORKERS)

test-slow: $(VENV)/test  ## the tests that take longer
	$(PY) -m pytest $(WORKERS) -m slow

test-exhaustive: $(VENV)/test  ## many more cases of what the tests try, compiled as users compile: a million posteriors, 224×224
	XLA_FLAGS= $(PY) -m pytest $(WORKERS) -m exhaustive

test-peers: $(VENV)/test  ## real servers, clients and attackers against the service, each in an environment of its own
	$(PY) -m pytest -m peers tests/peers

test-torch: $(VENV)/test $(VENV)/bench  ## the tests of the PyTorch baseline; they need PyTorch (a CPU build will do)
	$(PY) -m pytest -m "slow or not slow" tests/benchmarks/test_torch_reference.py tests/models/test_import_torch_forward.py tests/models/test_import_torch_checkpoints.py

fuzz: $(VENV)/fuzz  ## what reads foreign bytes, on CASES=20000 inputs each that a fuzzer makes (one to two hours)
	PYTHONPATH=tests/helpers $(PY) -m fuzz --cases $(CASES) --out $(RUNS)/fuzz

test-quick: $(VENV)/test  ## some of the tests, of every package
	$(PY) -m pytest $(WORKERS) $(WARNINGS) $(QUICK)

test-newest:  ## test-quick on the newest Python there is, with the newest versions that setup.cfg admits
	$(MAKE) test-quick VENV=.venv-newest PYTHON="$$(.ci/newest-python)" CONSTRAINTS=

# What is old warns of what is new beneath it; that is not ours to mend.
test-oldest: build/oldest.txt  ## test-quick on Python 3.11, with the oldest versions that setup.cfg admits
	$(MAKE) test-quick VENV=.venv-oldest PYTHON=python3.11 CONSTRAINTS=$< WARNINGS='-W default'

lint: $(VENV)/dev  ## ruff: lint and format; import-linter: imports point one way
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	PYTHONPATH=. $(VENV)/bin/lint-imports

types: $(VENV)/dev  ## mypy
	$(VENV)/bin/mypy

wheel: $(VENV)/dev  ## build the wheel and try it alone in an empty environment
	PYTHON=$(PY) CONSTRAINTS=$(CONSTRAINTS) .ci/try-wheel

bench: $(VENV)/bench  ## benchmarks against PyTorch and against ourselves: a table and runs/bench.json
	$(PY) benchmarks/run.py --out $(RUNS)/bench.json

reference: data  ## the README's full-size table (hours on 2 cores); notMNIST must have been prepared
	$(PY) -m experiments.worst_case --attack.pool notmnist --attackers standard --seeds 0 1 2 --folder reference --runs $(RUNS)

build/oldest.txt: setup.cfg .ci/oldest
	mkdir -p build
	.ci/oldest > $@

# Only what carries the mark of what made it goes: an environment of your own, given as VENV, stays, and so do build and
# dist.
clean:  ## remove the environments and the caches that these targets made; all else stays
	@for made in "$(VENV)" .venv-newest .venv-oldest .venv-peers-*; do \
	if test -e "$$made/made-by-make"; then rm -rf "$$made"; \
	elif test -e "$$made"; then echo "left alone: $$made, which this Makefile did not make"; fi; done
	@for cache in .pytest_cache .mypy_cache .ruff_cache; do test ! -e $$cache/CACHEDIR.TAG || rm -rf $$cache; done
	@test ! -e pp_jax.egg-info/PKG-INFO || rm -rf pp_jax.egg-info
	@if test -d .jax_cache; then find .jax_cache -maxdepth 1 -type f \( -name 'jit*-cache' -o -name 'jit*-atime' \) -delete; \
	rmdir .jax_cache 2> /dev/null || echo "left alone: what else is in .jax_cache"; fi

$(VENV)/base: setup.cfg pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, not %d.%d: make PYTHON=python3.12" % sys.version_info[:2])'
	test -x $(PY) || { $(PYTHON) -m venv $(VENV) && touch $(VENV)/made-by-make; }
	$(PIP) -e .
	@# So that the scripts are found from any folder, and run by path too.
	$(PY) -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "pp_jax_checkout.pth").write_text("$(CURDIR)\n")'
	@touch $@

$(VENV)/test $(VENV)/dev $(VENV)/bench $(VENV)/serve $(VENV)/fuzz: $(VENV)/%: $(VENV)/base
	$(PIP) -e '.[$*]'
	@touch $@
