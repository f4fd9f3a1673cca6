# Needs Python 3.11 or newer and make; everything else is brought by the targets that need it.
#   make PYTHON=/path/to/python3 ...   another Python        make test ARGS="-k cursor"   pytest's options

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test soak lint format coverage bench bench-peers env lock clean distclean python

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' Makefile | expand -t 22

run: python  ## a simulated market on http://127.0.0.1:8080, operators' port on 127.0.0.1:8081
	@$(PYTHON) .ci/environment.py run
	@exec $(BIN)/python .ci/foreground.py $(BIN)/hub serve --config conf/demo.toml $(ARGS)

test: env  ## linters and all tests; gets from the system's packages what they need
	@exec .ci/test $(ARGS)

soak: env  ## ten minutes of clients of every kind behind a bad network; SOAK_SECONDS=60 for less, SOAK_SEED=2
	@SOAK_SECONDS=$${SOAK_SECONDS:-600} exec $(BIN)/pytest -q -o faulthandler_timeout=0 tests/soak/test_soak.py $(ARGS)

lint: env  ## linters and types alone
	@exec .ci/lint

format: env  ## put all Python into ruff's format
	@$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format .

coverage: env  ## branch coverage of the ground floor, which must be whole
	@$(BIN)/coverage run --include='hub/sansio/*' -m pytest -q tests/sansio $(ARGS)
	@$(BIN)/coverage report --include='hub/sansio/*' --fail-under=100

bench: env  ## fan-out under load, against the peers that are installed
	@exec $(BIN)/python bench/fanout.py $(ARGS)

bench-peers:  ## install or build the peers (nchan, centrifuge) and the load client
	@exec bench/build-peers $(ARGS)

env: python  ## .venv with what tests and linters need
	@$(PYTHON) .ci/environment.py test

lock: python  ## pin the newest versions that pyproject.toml allows
	@PYTHON=$(PYTHON) exec .ci/lock $(ARGS)

clean:  ## remove what builds and tests leave behind
	@rm -rf build dist .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.venv/*' -not -path '*/node_modules/*' -prune -exec rm -rf {} +

distclean: clean  ## besides remove .venv and everything that was fetched
	@rm -rf .venv .cache tests/web/node_modules

python:
	@test -n "$(PYTHON)" || { echo 'No Python 3.11 or newer here. Debian, Ubuntu: apt-get install python3 python3-venv' >&2; exit 1; }
