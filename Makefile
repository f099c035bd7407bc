PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
EXTRAS ?= dev

.PHONY: sweep test test-all lint benchmarks clean

sweep: $(READY)  ## the main job on the embedded data set
	$(BIN)/python orchestrator/run.py --system gcrnn_vat

test: $(READY)  ## the tests
	$(BIN)/python -m pytest -m "not all" -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(READY)  ## the longer tests too
	$(BIN)/python -m pytest

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmarks: $(READY)  ## every performance claim; about two hours on two idle cores
	for script in sweep_overhead noop_trials input_pipeline training_rate memory stage_two null_claims trained_noise nightly_alarms interval_coverage plain_loop scale; do \
		$(BIN)/python benchmarks/$$script.py || exit 1; \
	done

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name it: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]'
	touch $(READY)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
