# `make` lists the targets, each of which prepares its own environment. Variables count on make's
# command line only: environment variables of the same names do not.
PYTHON = python3

# Values reach the shell as they were typed, whatever characters they hold. As environment
# variables they would be expanded.
typed = $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
unexport $(typed)
quote = '$(subst ','\'',$(1))'
given = $(if $(filter command,$(origin $(2))),$(if $(value $(2)),$(1)=$(call quote,$(value $(2)))))

# The folder of this file, so that make may be run in another one; its name may hold spaces.
ROOT := $(shell list=$(call quote,$(MAKEFILE_LIST)); \
    cd "$$(dirname "$$(expr "$$list" : ' *\(.*\)')")" && pwd)
IN_ROOT = cd $(call quote,$(ROOT)) &&
PREPARE = +@$(MAKE) --silent --no-print-directory -C $(call quote,$(ROOT))
SCRIPT = $(call quote,$(ROOT)/.venv/bin/python) $(call quote,$(ROOT)/scripts/$(1).py)
WITH_SCRIPTS = $(IN_ROOT) $(1) PYTHONPATH=scripts:. TF_CPP_MIN_LOG_LEVEL=3 .venv/bin/python

# What was typed must be an option of one of the targets: their texts end in a colon and a list.
# Sub-makes inherit the command line, so that only the first make looks.
targets = $(or $(MAKECMDGOALS),without a target)
options = $(shell awk 'index(targets, " " $$1 " ") && sub(/.*: .*: /, "") \
    { for (i = 1; i <= NF; i++) if (!seen[$$i]++) print $$i }' \
    targets=$(call quote, $(addsuffix :,$(targets)) ) $(call quote,$(ROOT)/Makefile))
unknown = $(filter-out PYTHON $(options),$(typed))
$(if $(filter 0,$(MAKELEVEL)),$(if $(unknown),$(error \
    make $(targets) has no option $(unknown); it has $(or $(options),none))))

# A test rarely keeps two cores busy.
TESTS = .venv/bin/python -m pytest --numprocesses 2 --dist worksteal

# Jupyter asks root, who is the only user of many containers, to say that it is meant.
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)

VARIANT_HERE = $(call given,--variant,VARIANT) $(call given,--output-dir,OUTPUT_DIR)

.PHONY: help run lab train samples export judge experiment test test-slow colab-test lint format \
    bench bench-torch notebook publish clean ready

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' \
	    $(call quote,$(ROOT)/Makefile)

run: ready ## execute the notebook; the result lies in executed/
	@$(call SCRIPT,run)

lab: ready ## open the notebook in JupyterLab
	$(PREPARE) .venv/lab-ready
	@$(IN_ROOT) .venv/bin/python -m jupyterlab $(AS_ROOT) cifar10_dcgan.ipynb

train: ready ## train in the terminal: VARIANT DATA IMAGE_SIZE EPOCHS OUTPUT_DIR BACKUP_DIR FAST
	@$(call SCRIPT,train) $(VARIANT_HERE) $(call given,--data,DATA) \
	    $(call given,--image-size,IMAGE_SIZE) $(call given,--epochs,EPOCHS) \
	    $(call given,--backup-dir,BACKUP_DIR) $(call given,--fast,FAST)

samples: ready ## write samples as .npz: VARIANT N SEED CLASS OUT OUTPUT_DIR
	@$(call SCRIPT,samples) $(VARIANT_HERE) $(call given,--count,N) $(call given,--seed,SEED) \
	    $(call given,--class,CLASS) $(call given,--out,OUT)

export: ready ## write the generator as a file: VARIANT OUT UINT8 OUTPUT_DIR
	@$(call SCRIPT,export) $(VARIANT_HERE) $(call given,--out,OUT) $(call given,--uint8,UINT8)

# glibc would give memory back to the system after each layer, and a forced CPU type slows OpenBLAS.
FOR_JUDGE = env -u OPENBLAS_CORETYPE MALLOC_TRIM_THRESHOLD_=4000000000 \
    MALLOC_MMAP_THRESHOLD_=4000000000

judge: ready ## score runs by an independent network: VARIANT OUTPUT_DIR SAMPLES
	@$(FOR_JUDGE) $(call SCRIPT,judge) $(VARIANT_HERE) $(call given,--samples,SAMPLES)

experiment: ready ## train and score one idea of experiments/: NAME FAST
	@$(call WITH_SCRIPTS,$(FOR_JUDGE)) experiments/runner.py $(call given,--name,NAME) \
	    $(call given,--fast,FAST)

test: lint ## lint, then run the tests that take seconds
	$(IN_ROOT) $(TESTS)

# All that prints a row of the table "What it survives", whether slow or not.
test-slow: ready ## kill, interrupt and starve runs; try JupyterLab in a browser, and Colab
	$(PREPARE) .venv/lab-ready || true
	$(IN_ROOT) $(TESTS) --verbose -m "slow or survives"

colab-test: ready ## execute the notebook on Colab's versions, alone in an empty folder
	$(IN_ROOT) .venv/bin/python -m pytest -m slow tests/test_colab.py

lint: ready ## check the code style
	$(IN_ROOT) .venv/bin/ruff check . && .venv/bin/ruff format --check .

format: ready ## apply the code style
	$(IN_ROOT) .venv/bin/ruff check --fix . && .venv/bin/ruff format .

bench: ready ## measure the speed: ROUNDS
	@$(WITH_SCRIPTS) benchmarks/train_step.py $(call given,--rounds,ROUNDS)

bench-torch: ready ## measure the speed beside that of PyTorch: ROUNDS
	$(PREPARE) .venv-torch/ready
	@$(WITH_SCRIPTS) benchmarks/train_step.py --torch $(call given,--rounds,ROUNDS)

notebook: ready ## execute the notebook in place, as it is committed
	$(IN_ROOT) .venv/bin/python -m nbconvert --to notebook --execute --inplace \
	    --ExecutePreprocessor.record_timing=False \
	    --ExecutePreprocessor.extra_arguments=--IPKernelApp.log_level=ERROR cifar10_dcgan.ipynb

publish: ready ## write the Colab badge and the repository's address: REPO BRANCH
	@$(call SCRIPT,publish) $(call given,--repo,REPO) $(call given,--branch,BRANCH)

clean: ## delete environments, caches and executed/
	$(IN_ROOT) rm -rf .venv .venv-torch .venv-judge .venv-colab executed .pytest_cache .ruff_cache .hypothesis

ready:
	$(PREPARE) .venv/ready

# A stamp is written last, so that an interrupted installation is taken up again.
.venv/ready: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || \
	    { echo "Python 3.11 to 3.13 is needed, $(PYTHON) is not one: add PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing the Python packages (2.4 GB) in .venv …"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements-dev.txt
	@touch $@

.venv/lab-ready: requirements-lab.txt
	@echo "Installing JupyterLab in .venv …"
	.venv/bin/python -m pip install --quiet --requirement $<
	@touch $@

# PyTorch stays apart: only a benchmark and the judge, which asks for it when it has work to do, use
# it. So do Colab's versions.
.venv-torch/ready: benchmarks/torch_requirements.txt
.venv-judge/ready: scripts/judge_requirements.txt
.venv-colab/ready: tests/colab_requirements.txt
.venv-colab/ready: PYTHON = $(shell for python in python3.13 ~/.pyenv/versions/3.13*/bin/python \
    python3; do $$python -c "" 2>/dev/null && echo $$python && break; done)
.venv-torch/ready .venv-judge/ready .venv-colab/ready:
	@echo "Installing the packages of $< in $(@D) …"
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --requirement $<
	@touch $@
