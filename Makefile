# `make` lists the targets.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PARTS := configuration model_cards modeling tokenization training
CHECKED := $(PARTS) trivium tests benchmarks

.PHONY: help setup demo test test-slow pytest lint format typecheck bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make the virtual environment and install everything in it, once

# torch first: nothing that is resolved later can then ask for another build of it.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt torch
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

demo: setup ## pretrain a small encoder, decoder and encoder-decoder, and show what they learnt
	$(BIN)/python -m trivium.training.demo --output_dir out/demo

test: lint typecheck pytest ## lint, types and every test that is not slow

pytest: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --durations 30 -m "not slow"

test-slow: lint typecheck ## the same with the slow tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

lint: setup ## rules and formatting, changing nothing
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

format: setup ## format, and mend what can be mended
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

# The type checker finds the parts by their import names through links.
typecheck: setup ## types
	mkdir -p build/types/trivium
	for path in trivium/*.py trivium/py.typed $(PARTS); do ln -sfn $(CURDIR)/$$path build/types/trivium/; done
	$(BIN)/mypy

bench: setup ## train against the reference models and print speed and memory
	$(BIN)/python -m benchmarks.training

clean: ## remove what was built; the virtual environment stays
	rm -rf build dist out *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
