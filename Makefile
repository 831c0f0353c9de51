# What one does with this tree. `make` alone lists it. Every target sets up what it needs: ./bootstrap runs first,
# and only looks when nothing changed.

PYTHON := .venv/bin/python
# Two workers, a file to one worker: kernel tests are kept apart by namespaces, and a file may share a costly fixture.
PYTEST := $(PYTHON) -m pytest -n 2 --dist loadfile
# Arguments for pytest or the demo: make test ARGS="-k vxlan"
ARGS :=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help bootstrap demo test lint bench nightly mutants lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

bootstrap: ## make .venv and install what is missing
	@./bootstrap

demo: bootstrap ## see it work: packets through functions, in the kernel of this machine
	@.venv/bin/iovisor demo $(ARGS)

test: bootstrap ## run every test (as root: the kernel's too)
	@$(PYTEST) $(ARGS)

lint: bootstrap ## check style (ruff) and types (mypy --strict)
	@.venv/bin/ruff check --quiet --output-format concise .
	@.venv/bin/mypy

bench: bootstrap ## measure, and compare with the yardsticks
	@$(PYTHON) -m pip --quiet --disable-pip-version-check install --require-hashes -r requirements-bench.lock
	@$(PYTHON) -m benchmarks $(ARGS)

nightly: bootstrap ## the tests, with the big agreement runs
	@$(PYTEST) --nightly $(ARGS)

mutants: bootstrap ## break the code on purpose, and see that a test notices
	@$(PYTHON) tests/mutants.py $(ARGS)

COMPILE := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade
lock: bootstrap ## take the newest versions that pyproject.toml allows into the locks
	@$(COMPILE) pyproject.toml --extra compile --extra daemon -o requirements.lock
	@$(COMPILE) pyproject.toml --extra compile --extra daemon --group dev -c requirements.lock -o requirements-dev.lock
	@$(COMPILE) --group bench -o requirements-bench.lock

clean: ## remove .venv and everything else that was made
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
