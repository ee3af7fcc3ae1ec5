# Everything that a person or CI runs. Needs Python >= 3.11 and make; the rest is installed into .venv from
# requirements.lock, hashes checked.

PYTHON ?= python3.13 python3.12 python3.11 python3
VENV := .venv
# Else each of a cluster's many processes would compile our own sources again.
export PYTHONDONTWRITEBYTECODE :=
SIDE_BY_SIDE := -n 3 --dist loadscope
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-long test-of chaos check format lint types words bench bench-quick bench-hour bench-search notebook opensearch docs docs-serve reference picture audit sbom schema lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## the whole way on this machine: bundled clips and models, a table, two searches
	@$(BIN)/heimdex demo

test: $(INSTALLED) ## all tests but the long ones: unit, integration (real Postgres), cluster (real Ray)
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not long"

test-fast: $(INSTALLED) ## unit and integration tests alone, without the long ones
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not long" tests/unit tests/integration

test-long: $(INSTALLED) ## the long ones: clusters that are killed, moved or taken over
	@$(BIN)/python -m pytest -m long

test-of: $(INSTALLED) ## the tests of one module: make test-of MODULE=cluster/files/web_body.py
	@$(BIN)/python -m tests.support.module_tests "$(MODULE)" > $(VENV)/tests-of
	@xargs $(BIN)/python -m pytest < $(VENV)/tests-of

chaos: $(INSTALLED) ## kill everything in turn and count what breaks: tests/chaos.md (SEED=7 PARTS="tokens media")
	@$(BIN)/python -m tests.chaos.run $(if $(SEED),--seed $(SEED)) $(PARTS)

check: $(INSTALLED) ## format, lint, types, who imports whom, words, and the documentation; changes nothing
	@$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory lint types words docs

format: $(INSTALLED) ## rewrite the sources in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix-only .

lint: $(INSTALLED) ## ruff's rules, and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache

types: $(INSTALLED) ## mypy, strict
	@$(BIN)/mypy

words: $(INSTALLED) ## the banned words, and the length of docstrings' first sentences
	@$(BIN)/python -m pytest --quiet tests/unit/test_words.py

bench: $(INSTALLED) ## speed against what one would use instead, kept in tests/benchmarks/results.md
	@$(BIN)/python -m tests.benchmarks.run

bench-quick: $(INSTALLED) ## the same in small, to be seen only
	@$(BIN)/python -m tests.benchmarks.run --quick

bench-hour: $(INSTALLED) ## an hour of 1080p: time per stage and memory, kept in tests/benchmarks/hour.md
	@$(BIN)/python -m tests.benchmarks.hour

bench-search: $(INSTALLED) ## recall and speed of the search, kept in tests/benchmarks/search.md (SCENES="100000 1000000")
	@$(BIN)/python -m tests.benchmarks.search $(if $(SCENES),--scenes $(SCENES))

notebook: $(INSTALLED) ## open the capacity analysis
	@$(BIN)/jupyter lab notebooks/capacity_analysis.ipynb

opensearch: $(INSTALLED) ## a real OpenSearch on 127.0.0.1 until Ctrl-C, for development (PORT=9200)
	@$(BIN)/python -m tests.support.opensearch_command $(if $(PORT),--port $(PORT))

docs: $(INSTALLED) ## build the documentation into site/, strictly: no broken link, no page outside the navigation
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(INSTALLED) ## serve the documentation on http://127.0.0.1:8001 while one writes
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8001

reference: $(INSTALLED) ## write the generated parts of docs/reference again: settings, options, operations, errors
	@$(BIN)/python -m tests.support.reference_pages

picture: $(INSTALLED) ## draw docs/pictures/demo.svg again, from a real run of the demo
	@$(BIN)/python -m tests.support.demo_picture

audit: $(INSTALLED) ## known vulnerabilities of every pinned package, from OSV's advisory database
	@$(BIN)/python -m tests.support.audit_command

sbom: $(INSTALLED) ## what is installed, with licences, as sbom.json (CycloneDX)
	@$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	    --output-file sbom.json $(BIN)/python

schema: $(INSTALLED) ## what all migrations make together, as sql/schema.sql
	@$(BIN)/python -m tests.support.schema_snapshot

lock: $(BIN)/uv ## resolve pyproject.toml into requirements.lock again
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --quiet --custom-compile-command "make lock" --output-file requirements.lock

# Compiled once here: under PYTHONDONTWRITEBYTECODE, which many containers set, each of a cluster's processes would
# compile Ray and torch again (twice the time to start).
$(INSTALLED): requirements.lock pyproject.toml $(BIN)/uv
	@$(BIN)/uv pip sync --python $(BIN)/python --compile-bytecode --require-hashes requirements.lock
	@$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# The installer itself is pinned in the lock too.
$(BIN)/uv: | $(BIN)/pip
	@awk '/^[^ #]/ { wanted = /^uv==/ } wanted' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock

$(BIN)/pip:
	@for python in $(PYTHON); do \
	    if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "Installing into $(VENV) with $$($$python --version)"; \
	        exec $$python -m venv $(VENV); \
	    fi; \
	done; \
	echo 'No Python >= 3.11 with its venv module among: $(PYTHON).' >&2; \
	echo 'Install one (on Debian and Ubuntu: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3.11' >&2; \
	exit 1
