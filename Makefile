# Everything a newcomer or CI needs; each command sets up what it uses.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Two more than cores: half of a test's time it waits for leases and processes.
WORKERS = $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 2)')
# Looks for what people without eyes or hands would trip over; the pages need nothing of npm.
AXE     = tests/web/node_modules/axe-core/axe.min.js
STDLIB  = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')

.PHONY: help setup packages run test check lint types tests lock bench bench-peers torture vm pictures clean

help: ## show the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(VENV)/.installed ## make .venv and install the locked dependencies and jobtasks into it

$(VENV)/.installed: requirements.lock pyproject.toml
	@echo "setting up $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

packages: $(AXE) ## what tests use of Debian and npm; Debian's without root is only named
	@missing=$$(for name in $$(cat tests/debian-packages.txt); do \
		dpkg-query -W -f '$${Status}' $$name 2>/dev/null | grep -q 'ok installed' || echo $$name; done); \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing" $$missing; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else echo "tests that need these packages are skipped:" $$missing >&2; fi

$(AXE): tests/web/package-lock.json
	@if command -v npm >/dev/null && npm ci --prefix tests/web --silent --no-audit --no-fund --ignore-scripts; \
	then touch $@; \
	else echo "tests that need axe-core, from npm, are skipped" >&2; fi

run: setup ## run the main job: hash the Python standard library, one task per file
	@$(BIN)/python examples/parallel_hash/demo.py $(STDLIB)

# Types have a core of their own while tests wait.
test: setup packages lint ## lint, types and every test
	@$(MAKE) --no-print-directory --jobs=2 types tests

check: lint types ## lint and types

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup
	@$(BIN)/mypy

# Where a shell forbids Python to keep what it has translated, each of hundreds of servers and
# agents would translate its modules anew.
tests: export PYTHONDONTWRITEBYTECODE =
tests: setup ## every test
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

bench: setup ## measure, about half an hour, for docs/explanation/performance.md: see bench/README.md
	@$(BIN)/python -m bench
	@$(BIN)/python -m bench.page

bench-peers: setup ## measure beside other systems, which it installs into .peers, about an hour
	@$(BIN)/python -m bench.peers --setup
	@$(BIN)/python -m bench --only P2
	@$(BIN)/python -m bench.page

torture: setup packages ## try every promise for MINUTES (2), or the one that ROW names: docs/explanation/promises.md
	@$(BIN)/python -m tests.torture --minutes $${MINUTES:-2} $${ROW:+--row "$$ROW"}

pictures: setup packages ## take the pictures of the pages in docs/images anew
	@$(BIN)/python -m tests.web.pictures

vm: setup ## the memory controller, in a virtual machine of its own: see tests/vm/README.md
	@$(BIN)/python tests/vm/machine.py

lock: ## pin the dependencies again, with hashes
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml --group dev --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 --quiet --output-file requirements.lock

clean: ## remove .venv, the peers of the bench, and caches
	rm -rf $(VENV) .peers tests/web/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
