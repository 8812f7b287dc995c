# make bench   the main job: a pruned BERT-base, timed beside dense engines (no download of a model)
# make test    all tests
# make check   lint, format, types, layers
# make clean   remove the virtual environment and everything built
#
# Each target sets up .venv by itself. PYTHON=... picks the interpreter (3.11 or newer),
# ARGS=... is handed on to the benchmark or to pytest: make test ARGS="-k export".

PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3))
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[hf]'

.DEFAULT_GOAL := bench
.PHONY: bench test check clean

bench: $(VENV)/bench.stamp
	$(BIN)/python benchmarks/main_job.py $(ARGS)

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 $(ARGS)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

clean:
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is the time of the last successful set-up: a repeat run installs nothing.
$(VENV)/bench.stamp: $(VENV)/venv.stamp pyproject.toml constraints.txt
	$(INSTALL) --group bench
	@touch $@

$(VENV)/dev.stamp: $(VENV)/venv.stamp pyproject.toml constraints.txt
	$(INSTALL) --group dev
	@touch $@

# pip before 25.1 cannot read dependency groups, and Debian's is older: hence the upgrade.
$(VENV)/venv.stamp:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "make: found no $(or $(PYTHON),python3). Install Python 3.11 or newer (Debian: apt install" \
	       "python3 python3-venv), or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $(PYTHON) is $$("$(PYTHON)" -V 2>&1), and prunus needs Python 3.11 or newer." \
	       "Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: $(PYTHON) cannot create virtual environments: its venv or ensurepip module is missing." \
	       "Install it (Debian and Ubuntu: apt install python3-venv), then run make again." >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --upgrade pip
	@touch $@
