# setup: everything for working on Sparring   demo: train, then list the runs   test: the suite
# check: style, types, layers, README         docs: links and commands          clean: remove what these words made
# test-vllm: vLLM itself on this CPU, in an environment of its own (4 GB, seven minutes on two cores)
# test-browser: every page in a headless Chromium (Debian's, installed where it is absent and root asks)
# test-postgres: a real PostgreSQL server beside SQLite (Debian's, installed where it is absent and root asks)
# test-inspect: exported logs, read by inspect-ai in an environment of its own
#
# Needs python3 (3.11 or later), pip and git. Each word does its own set-up.
#   make PYTHON=python3.12          another interpreter
#   make TORCH='torch==2.12.1'      another torch (any requirement pip understands)

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: setup demo test test-vllm test-browser test-postgres test-inspect check docs clean

PYTHON ?= python3
TORCH ?= $(shell grep '^torch==' constraints.txt)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# a folder called agents/ must not shadow another package's module of that name
export PYTHONSAFEPATH := 1
# what tests start a hundred times is compiled once; `make clean` takes it away
export PYTHONDONTWRITEBYTECODE :=

setup: .venv/dev.stamp
	@echo "ready: $(BIN)/sparring --help"

demo: .venv/demo.stamp
	$(BIN)/sparring run code-output
	$(BIN)/sparring runs

test: .venv/dev.stamp
	$(BIN)/pytest -n auto --dist worksteal

test-vllm: .venv-vllm/made.stamp
	.venv-vllm/bin/python -m pytest -m vllm tests/training/engines_vllm

test-browser: .venv/browser.stamp
	tools/browser_env.sh
	$(BIN)/pytest -m browser tests/browser

test-postgres: .venv/dev.stamp
	tools/postgres_env.sh
	$(BIN)/pytest -m postgres tests/postgres

test-inspect: .venv-inspect/made.stamp
	.venv-inspect/bin/python -m pytest -m inspect tests/storage/test_exporting.py

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases tests tools
	$(BIN)/lint-imports
	$(BIN)/pytest tests/house
	$(BIN)/python tools/readme_blocks.py README.md

docs: .venv/dev.stamp
	$(BIN)/python tools/check_docs.py

clean:
	rm -rf .venv .venv-* dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and alone: under an exact version pip finds the small CPU build where one is offered,
# while a plain range takes the newest, which may be gigabytes.
.venv/torch.stamp: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install '$(TORCH)'
	grep -v '^torch==' constraints.txt > .venv/constraints.txt
	touch $@

.venv/demo.stamp: .venv/torch.stamp pyproject.toml
	$(PIP) install -c .venv/constraints.txt -e .
	touch $@

.venv/dev.stamp: .venv/torch.stamp pyproject.toml
	$(PIP) install -c .venv/constraints.txt -e '.[dev]'
	touch $@

.venv/browser.stamp: .venv/dev.stamp
	$(PIP) install -c .venv/constraints.txt -e '.[browser]'
	touch $@

.venv-vllm/made.stamp: tools/vllm_env.sh constraints-vllm.txt pyproject.toml
	tools/vllm_env.sh .venv-vllm $(PYTHON)
	touch $@

.venv-inspect/made.stamp: constraints-inspect.txt pyproject.toml
	test -x .venv-inspect/bin/python || $(PYTHON) -m venv .venv-inspect
	.venv-inspect/bin/python -m pip install "$$(grep '^torch==' constraints-inspect.txt)"
	grep -v '^torch==' constraints-inspect.txt > .venv-inspect/constraints.txt
	.venv-inspect/bin/python -m pip install -c .venv-inspect/constraints.txt -e '.[inspect]' pytest pytest-timeout hypothesis
	touch $@
