# make install   a working .venv/bin/streamheal, with extras and test tools
# make demo      a stream with poison in it, healed before your eyes
# make test      the whole test suite
# make coverage  the same, and which lines it reached; takes minutes longer
# make check     style, types and the direction of imports
# make mutants   breaks the core in small ways, and counts which a test notices
# make simulate  the runtime in WORLDS made-up worlds (from seed FIRST), on all cores
# make mutants-simulation   the runtime broken on purpose, and whether those worlds notice
# make torture   kill rounds: ROUNDS=…, SEED=… of the first, ENGINE=poll|kcl|both, JOBS=…
# make bench     measures, and writes bench/results.json
# make clean     removes what these made

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LOCKED := requirements/dev.txt
# Two at once: most of the time is waited, for deadlines and for a JVM.
PYTEST_ARGUMENTS ?= -n 2 --dist loadfile
FIRST ?= 0
WORLDS ?= 10000

# The first that is new enough; PYTHON=… names another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$python" && break; done)

ifneq ($(shell command -v uv),)
INSTALLER := uv
MAKE_VENV = test -x $(BIN)/python || uv venv --quiet --python "$(PYTHON)" $(VENV)
PIP = uv pip install --quiet --python $(BIN)/python
else
INSTALLER := pip
MAKE_VENV = test -x $(BIN)/pip || "$(PYTHON)" -m venv --clear $(VENV)
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

# KCL's jars come with amazon_kclpy, which fetches them while it is built, or in the wheel of kclpy-ext.
# Without them everything but the engine kcl works.
KCL = $(BIN)/python -c 'import amazon_kclpy' 2>/dev/null \
	|| $(PIP) --no-deps -r requirements/kcl.txt 2>/dev/null \
	|| $(PIP) --no-deps -r requirements/kcl-ext.txt 2>/dev/null \
	|| echo "KCL's jars cannot be had here: the engine kcl is left out, and its tests are skipped"

.PHONY: install demo test coverage check mutants simulate mutants-simulation torture bench clean

install: $(INSTALLED)

# Installed again only when what is to be installed has changed. streamheal itself is
# installed in place, so its own files need nothing.
$(INSTALLED): pyproject.toml $(LOCKED) requirements/kcl.txt requirements/kcl-ext.txt
	@test -n "$(PYTHON)" || { echo "streamheal needs Python 3.11 or newer, and finds none: install one, or say make PYTHON=/path/to/python3"; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "streamheal needs Python 3.11 or newer, and $(PYTHON) is older: say make PYTHON=/path/to/python3"; exit 2; }
	@echo "Installing into $(VENV) ($$("$(PYTHON)" --version), $(INSTALLER)) …"
	@$(MAKE_VENV)
	@$(PIP) -r $(LOCKED)
	@$(PIP) --no-deps --no-build-isolation -e .
	@$(KCL)
	@$(BIN)/streamheal --version
	@touch $@

demo: install
	@$(BIN)/streamheal demo

test: install
	$(BIN)/python -m pytest $(PYTEST_ARGUMENTS)

coverage: install
	$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGUMENTS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A world that fails is named at once, and told line by line at the end, which Ctrl-C brings about early.
simulate: install
	$(BIN)/python -m tests.simulation $(FIRST) $(WORLDS)

# Breaks the runtime on purpose, and counts the worlds until that is noticed.
mutants-simulation: install
	$(BIN)/python -m tests.simulation.mutants

# All anew, or those that ONLY names: what mutmut remembers of others would be of older tests.
# It calls mypy by its name.
mutants: install
	@$(BIN)/mutmut --version >/dev/null 2>&1 || $(PIP) -r requirements/mutmut.txt
	@$(if $(ONLY),,rm -rf mutants)
	@PATH="$(CURDIR)/$(BIN):$$PATH" mutmut run $(MUTMUT_ARGUMENTS) $(ONLY)
	@$(BIN)/mutmut results --all true | $(BIN)/python -m tests.house.mutants $(ONLY)

ROUNDS ?= 20
SEED ?= 1
ENGINE ?= poll
torture: install
	@$(BIN)/python -m tests.torture --rounds $(ROUNDS) --seed $(SEED) --engine $(ENGINE) $(if $(JOBS),--jobs $(JOBS)) $(TORTURE_ARGUMENTS)

# amazon_kclpy is what we are compared with.
bench: install
	@$(BIN)/python -c 'import amazon_kclpy' || { echo "make bench compares with amazon_kclpy, which cannot be had here"; exit 2; }
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov mutants build dist
