# The few commands a person types. PYTHON names the interpreter that .venv is made with.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: repro few-labels label predict study few-labels-study push pull compare pr-report test mutants lint bench lock

# Run the stages whose inputs changed, and show the metrics.
repro: .venv/installed
	$(BIN)/dvc repro
	$(BIN)/dvc metrics show --precision 4

# Run the recipe for few labels, which is these settings of the same pipeline, and keep it as an experiment.
LABELS ?= 2000
few-labels: .venv/installed
	$(BIN)/python -m tools.recipes few-labels --set select_labels.n_labels=$(LABELS)
	$(BIN)/dvc metrics show --precision 4

# Ask a person for labels, the most useful images first; then make repro learns from them.
DATASET ?= $(shell sed -n 's/^  dataset: *\([^ ]*\).*/\1/p' params.yaml)
DATASET ?= $(shell sed -n 's/^  dataset: *\([^ ]*\).*/\1/p' params.yaml)
label: export DATASET := $(DATASET)
label: .venv/installed
	$(BIN)/dvc repro --quiet select-labels
	$(BIN)/python -m app.label --queries data/queries.csv --dataset data/classes.json \
		--images data/train_images.npy --names data/train_names.csv --ledger "labels/$$DATASET.csv"

# Classify photos that the pipeline has never seen, a folder or one file, into predictions.csv: make predict IMAGES=~/new
# By the network, or by logistic regression: MODEL=logreg. Another place for the answers: OUT=elsewhere.csv
MODEL ?= nn
predict: .venv/installed
	@$(if $(IMAGES),,$(error which images? make predict IMAGES=a-folder-or-a-file))$(BIN)/python -m tools.predict \
		--images "$$IMAGES" --model $(MODEL) $(if $(OUT),--out "$$OUT")

# Run what is missing of the study, and write its tables; the published network's rows too: PUBLISHED_NETWORK=1
study: .venv/installed
	$(BIN)/dvc repro download
	$(BIN)/python -m study.run $(if $(SEED),--seed $(SEED)) $(if $(PUBLISHED_NETWORK),--published-network)

# Run the recipe for few labels at several budgets and seeds, without each ingredient, and beside its peers: hours.
few-labels-study: .venv/installed
	$(BIN)/python -m study.few_labels
	$(BIN)/python -m study.few_labels_peers
	$(BIN)/python -m study.tabulate_few_labels

# Send every run to the remote, or have every run from it, and the workspace as dvc.lock says.
push: .venv/installed
	$(BIN)/python -m tools.runs push

pull: .venv/installed
	$(BIN)/python -m tools.runs pull
	$(BIN)/dvc checkout

# Show the experiments beside the commit they start from: what differs between them, and how well they did.
compare: .venv/installed
	@$(BIN)/dvc exp show --md --only-changed --hide-workspace --precision 4 \
		--drop 'Created|labels|data/|models/|stages/|few_labels/|calibration|.*macro_f1|.*restarts'

# Write report.md: what the working tree changes in results, against BASE.
BASE ?= main
pr-report: override export BASE := $(value BASE)
pr-report: .venv/installed
	$(BIN)/python -m tools.pr_report --report report.md

# What some tests need that pip cannot bring, each as a command and the package of Debian's that has it. Where it cannot
# be installed, those tests are skipped.
TEST_PACKAGES := sshd:openssh-server
test: .venv/installed
	@as_root="env DEBIAN_FRONTEND=noninteractive"; [ $$(id -u) = 0 ] || as_root="sudo -n $$as_root"; \
	for each in $(TEST_PACKAGES); do \
		tool=$${each%:*} package=$${each#*:}; \
		PATH=$$PATH:/usr/sbin command -v $$tool >/dev/null && continue; \
		printf "installing $$package: "; \
		said=$$($$as_root apt-get update -qq 2>&1 && $$as_root apt-get install -qq $$package 2>&1) && echo done \
			|| echo "failed ($$(echo "$$said" | tail -n 1)), so the tests that need $$tool are skipped"; \
	done
	$(BIN)/pytest --numprocesses auto

# Break the pure modules in every way that mutmut knows, and list what no test notices: docs/mutation-testing.md
MUTMUT := $(BIN)/uv run --quiet --no-project --with mutmut==3.8.1 mutmut
mutants: export OMP_NUM_THREADS := 1
mutants: .venv/installed
	$(MUTMUT) run
	$(MUTMUT) results

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Measure speed and memory beside the peers: every case, which takes hours, or one: make bench CASE=kmeans
bench: .venv/installed
	$(BIN)/dvc repro
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
