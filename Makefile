# Each target prepares .venv by itself. Variables: see the README's table of commands.
PYTHON ?= python3
VARIANT ?= baseline
OUT ?= samples.npz

BIN := .venv/bin
READY := .venv/ready
TORCH_READY := .venv-torch/ready

# The names a reader may give on the command line reach the scripts as options.
TRAIN_OPTIONS = --variant $(VARIANT) $(if $(EPOCHS),--epochs $(EPOCHS)) \
    $(if $(OUTPUT_DIR),--output-dir "$(OUTPUT_DIR)") $(if $(filter 1,$(FAST)),--fast)
SAMPLE_OPTIONS = --variant $(VARIANT) --out "$(OUT)" $(if $(N),--count $(N)) \
    $(if $(SEED),--seed $(SEED)) $(if $(OUTPUT_DIR),--output-dir "$(OUTPUT_DIR)")

BENCHMARK = PYTHONPATH=.:.make TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python

.PHONY: run notebook train samples ablation seeds test test-slow lint format bench bench-torch bench-growth \
    publish clean

run: $(READY)
	$(BIN)/python .make/run.py

notebook: $(READY)
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace \
	    --ExecutePreprocessor.record_timing=False cifar10_dcgan.ipynb

train: $(READY)
	$(BIN)/python .make/train.py $(TRAIN_OPTIONS)

samples: $(READY)
	$(BIN)/python .make/samples.py $(SAMPLE_OPTIONS)

ablation: $(READY)
	$(BENCHMARK) benchmarks/ablation.py

seeds: $(READY)
	$(BENCHMARK) benchmarks/seeds.py

test: lint
	$(BIN)/python -m pytest

# All that prints a row of the README's table "What it survives", whether slow or not.
test-slow: $(READY)
	$(BIN)/python -m pytest -s -m "slow or survives"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BENCHMARK) benchmarks/train_step.py

bench-torch: $(READY) $(TORCH_READY)
	$(MAKE) bench

bench-growth: $(READY)
	$(BENCHMARK) benchmarks/growth.py

publish: $(READY)
	$(BIN)/python .make/publish.py "$(REPO)"

clean:
	rm -rf .venv .venv-torch executed runs .pytest_cache .ruff_cache

# The stamp is written last, so that an interrupted installation is taken up again.
$(READY): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	@touch $@

# PyTorch stays apart: only the benchmark compares with it.
$(TORCH_READY):
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet torch==2.13.0 numpy
	@touch $@
