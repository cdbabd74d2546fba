# Short names for what one does with this repository; `make` alone lists them.

PYTHON ?= python3
UV ?= uv
CORES ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
ARGS ?=
UTTERANCES ?= 10000 100000

# Rules call plain `python`, so every recipe below runs with .venv/bin first on the PATH.
IN_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"
PIP_INSTALL := .venv/bin/python -m pip install --disable-pip-version-check -q -c envs/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test drills bench simulate lint format clean lock FORCE

help: ## List the targets
	@echo 'Usage: make TARGET [CORES=N] [ARGS="..."] [PYTHON=python3.12]'
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'ARGS is passed on to snakemake (run), pytest (test), the benchmark (bench) or uv (lock).'

run: .venv/.installed-run ## Run the workflow on this computer
	$(IN_VENV) snakemake --cores $(CORES) $(ARGS)

test: .venv/.installed-dev ## Run the tests, except those that need a GPU or the network
	$(IN_VENV) python -m pytest -n 2 --dist loadgroup -m 'not gpu and not network' $(ARGS)

drills: .venv/.installed-dev ## Break runs at random moments, see that the next ones converge; ARGS="--rounds 5"
	$(IN_VENV) python tests/drills/drills.py $(ARGS)

bench: .venv/.installed-run ## Time the data steps beside references; ARGS="shards bins" takes these rows
	$(IN_VENV) python tests/benchmarks/bench.py $(ARGS)

simulate: .venv/.installed-run ## Run the data steps on a made-up corpus; UTTERANCES=1000000
	$(IN_VENV) python tests/benchmarks/simulate.py $(UTTERANCES)

lint: .venv/.installed-dev ## Check format, style, types and the workflow, without running it
	$(IN_VENV) ruff format --check .
	$(IN_VENV) ruff check .
	$(IN_VENV) snakefmt --check Snakefile rules
	$(IN_VENV) mypy
	$(IN_VENV) snakemake --lint

format: .venv/.installed-dev ## Format the code and fix what can be fixed without thought
	$(IN_VENV) ruff check --fix-only .
	$(IN_VENV) ruff format .
	$(IN_VENV) snakefmt Snakefile rules

clean: ## Remove results, transcripts, logs, benchmarks and caches; data/ and .venv/ stay
	rm -rf results transcripts logs $(filter-out benchmarks/results/,$(wildcard benchmarks/*/)) .snakemake/log .snakemake/tmp.*
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache

lock: ## Resolve envs/constraints.txt anew (needs uv); ARGS=--upgrade takes newer releases
	@command -v "$(UV)" >/dev/null || { echo 'error: `make lock` needs uv: install it, or name it with UV=path/to/uv' >&2; exit 1; }
	"$(UV)" pip compile --universal --python-version 3.11 envs/requirements.txt envs/requirements-dev.txt -o envs/constraints.txt $(ARGS)
	@echo 'Now bring envs/*.yaml to the same versions; tests/unit/test_envs.py names each that differs.'


# The environment. A stamp is written once everything is installed, so an interrupted installation is taken up again and
# edited pins are installed. A .venv is built anew if it is half made (`activate` is written last), if its Python is
# gone or of another version, or if it was copied from elsewhere: its commands would start the Python over there.

SUPPORTED := (3, 11) <= sys.version_info[:2] < (3, 14)

ifneq ($(wildcard .venv),)
ifneq ($(shell grep -qF "$(CURDIR)/.venv" .venv/bin/activate 2>/dev/null && \
  .venv/bin/python -c 'import pip, sys; print("sound" if $(SUPPORTED) else "")' 2>/dev/null),sound)
.venv/bin/activate: FORCE
endif
endif

.venv/bin/activate:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo 'error: no "$(PYTHON)" found; name a Python 3.11, 3.12 or 3.13: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(0 if $(SUPPORTED) else "error: Nuptse needs Python 3.11, 3.12 or 3.13, but \
	$(PYTHON) is %d.%d; name another one: make PYTHON=python3.12" % sys.version_info[:2])'
	@echo 'Making .venv with $(PYTHON)'
	@"$(PYTHON)" -m venv --clear .venv

.venv/.installed-run: .venv/bin/activate envs/requirements.txt envs/constraints.txt
	@echo 'Installing the pinned packages into .venv; the first time takes some minutes'
	@$(PIP_INSTALL) -r envs/requirements.txt
	@touch $@

.venv/.installed-dev: .venv/.installed-run envs/requirements-dev.txt
	@echo 'Installing the development tools into .venv'
	@$(PIP_INSTALL) -r envs/requirements-dev.txt
	@touch $@
