# Needs make and Python 3.11 or newer with venv; everything else comes from pip, into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests that run at once; those that kill processes run one after another all the same (tests/conftest.py).
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder

# Where it is set, all is compiled anew for each process that a test starts.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check style types layers fast deep processes chaos lan format bench-peers redis clean

help:  ## show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## see a mesh at work in half a minute
	@$(BIN)/mesh demo

test: check redis  ## everything that must hold: style, types, layers, then all tests but those of the LAN, fast ones first
	@$(PYTEST) -m "not lan"

check: style types layers

style: $(VENV)/.installed-dev  ## lint, and look whether the code is formatted
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev  ## check types
	@$(BIN)/mypy

layers: $(VENV)/.installed-dev  ## check that imports go down only
	@$(BIN)/lint-imports --no-logo

# One more than there are processors: a third of their time they wait for something.
fast: $(VENV)/.installed-dev  ## the tests that start no process, with few seeds and examples
	@$(BIN)/python -m pytest -n $$(($(JOBS) + 1)) --dist worksteal --hypothesis-profile fast -m "not deep and not processes and not chaos and not lan"

deep: $(VENV)/.installed-dev  ## the simulated histories of many seeds, minutes of them
	@$(PYTEST) -m "deep and not chaos and not lan"

processes: $(VENV)/.installed-dev  ## the tests that start real processes, or wait for sockets
	@$(PYTEST) -m "processes and not chaos and not lan"

chaos: $(VENV)/.installed-dev  ## the tests that kill, stop and starve processes
	@$(PYTEST) -m chaos

lan: $(VENV)/.installed-dev  ## the tests on hosts of their own, network namespaces: as root, with iproute2
	@$(BIN)/python -m pytest -m lan -s

redis:  ## a Redis server from the system's packages, which the tests of that store start themselves: as root, with apt-get
	@command -v redis-server >/dev/null || command -v valkey-server >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server >/dev/null; \
		else \
			echo "no Redis server: its tests are skipped (apt-get install redis-server, or make redis as root)"; \
		fi; }

format: $(VENV)/.installed-dev  ## put the code into the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:  ## remove what was made, the virtual environment too
	rm -rf $(VENV) .peers build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

bench-peers: $(VENV)/.installed  ## an environment for each peer that `mesh bench compare` knows; PEERS="celery rq": these
	@$(BIN)/python -m bench.peers.install $(PEERS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than Python 3.11: say which to take, as in make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# A stamp is newer than pyproject.toml, and the version it reads, once its installation is done, so a second run installs nothing.
$(VENV)/.installed: pyproject.toml mesh/__init__.py | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml mesh/__init__.py | $(BIN)/python
	@echo "installing into $(VENV), with what the tests need ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed
