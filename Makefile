# The few commands a person types. PYTHON names the interpreter that .venv is made with.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: repro test lint bench lock

# Run the stages whose inputs changed, and show the metrics.
repro: .venv/installed
	$(BIN)/dvc repro
	$(BIN)/dvc metrics show --precision 4

test: .venv/installed
	$(BIN)/pytest --numprocesses auto

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Measure speed and memory beside the peers: every case, which takes hours, or one: make bench CASE=kmeans
bench: .venv/installed
	$(BIN)/dvc repro download
	$(BIN)/python -m benchmarks $(if $(CASE),--case $(CASE))

# Pin every dependency again, for every platform and Python from 3.11 on.
lock: .venv/installed
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-emit-index-url \
		requirements.in --output-file requirements.txt

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "$(PYTHON) is not Python 3.11 to 3.13, which TensorFlow is built for; try make PYTHON=python3.13"; exit 1; }
	@echo "installing requirements.txt into .venv, which takes a few minutes the first time"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@
