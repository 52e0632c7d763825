# Interlock. `make` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp
PYTEST := $(BIN)/pytest
ROUNDS ?= 300
STORE ?= sqlite
SEED ?=
SEEDS ?= 10000
ONLY ?=
SAMPLE ?=

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" scripts/setup.sh
	@touch $@

.PHONY: setup
setup: $(STAMP) ## prepare .venv (uv where it can be had, else pip)

.PHONY: demo
demo: $(STAMP) ## do the main job once; STORE=postgres: on two processes and a PostgreSQL; KEEP=1 keeps it up
	@$(if $(filter postgres,$(STORE)),scripts/postgres.sh &&) $(BIN)/interlock demo --store $(STORE) $(if $(KEEP),--keep)

.PHONY: check
check: lint ## format, lint, types, import rules, unit tests
	$(PYTEST) -q tests/unit

.PHONY: lint
lint: $(STAMP) ## format, lint, types, import rules
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: test
test: $(STAMP) ## all tests, under ten minutes on two cores
	$(PYTEST) -q -n 3 --dist loadgroup tests

.PHONY: demo-regions
demo-regions: $(STAMP) ## two regions and a witness: one is killed under load, taken over, and returns; a checker counts
	@scripts/postgres.sh && $(BIN)/python -m chaos.demo

.PHONY: chaos
chaos: $(STAMP) ## faults x moments x dials over real regions, an hour; ONLY= some of them, SAMPLE= so many, RESUME=yes
	@scripts/postgres.sh && $(BIN)/python -m chaos.run $(if $(ONLY),--only $(ONLY)) $(if $(SAMPLE),--sample $(SAMPLE)) \
	  $(if $(RESUME),--resume)

.PHONY: model
model: $(STAMP) ## every interleaving of the regions' rules, and every planted mistake
	$(BIN)/python -m models --all

.PHONY: simulate
simulate: $(STAMP) ## SEEDS=10000 seeded worlds of regions; SEED=N replays one
	$(BIN)/python -m simulation $(if $(SEED),--seed $(SEED) --trace,--seeds $(SEEDS))

.PHONY: contracts
contracts: $(STAMP) ## the store's contract on every back end
	$(PYTEST) -q tests/contracts

.PHONY: acceptance
acceptance: $(STAMP) ## real processes over HTTP
	$(PYTEST) -q tests/acceptance

.PHONY: docs
docs: $(STAMP) ## write the generated parts of the docs
	$(BIN)/python scripts/docs.py

.PHONY: bench
bench: $(STAMP) ## measure; STORE=postgres, =regions, =core: messages alone, =bulk: long ones; JSON in bench/results
	$(BIN)/python -m bench.run --store $(STORE)

.PHONY: torture
torture: $(STAMP) ## kill -9 under load, ROUNDS=300 times
	$(BIN)/python -m tests.acceptance.$(if $(filter postgres,$(STORE)),postgres_)torture --rounds $(ROUNDS)

.PHONY: fix
fix: $(STAMP) ## format, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
