# make demo   train, evaluate and predict on the built-in CT phantom, with a report
# make test   every test a user needs to trust the install
# Both make .venv themselves; with it there they start at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test lint clean

# torch goes in first and pinned: a plain "torch" would bring several GB of CUDA where none is needed
$(READY): setup.cfg constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	touch $@

demo: $(READY)
	$(BIN)/python -m monai_ext demo

# one thread per worker: two workers fill two cores, and the numbers do not depend on the machine
test: $(READY)
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest -n 2 --dist worksteal --durations=15 tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) *.egg-info build dist demo .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
