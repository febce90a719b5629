# make demo   train, evaluate and predict on the built-in CT phantom, with a report
# make test   every test a user needs to trust the install
# make docs   the documentation as a site: site/index.html
# make dist   a wheel and an sdist with the nine bundles: dist/
# make test-apps   the tests of MONAI Label and MONAI Deploy, with the real programs (make apps: their environment)
# Both make .venv themselves; with it there they start at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test docs dist lint clean apps test-apps

# torch goes in first and pinned: a plain "torch" would bring several GB of CUDA where none is needed
$(READY): setup.cfg setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	touch $@

BUNDLE := bundles/dcaunet_synapse/configs
RUN := $(BIN)/python -W ignore -m monai.bundle run
LIGHT := --flip_prob 0 --rotation 0.1 --foreground_weight 2 --precision auto
DEMO := --output_dir demo --ckpt_dir demo --batch_size 8 --image_size "[96,96]" --split paper

# small slices and few epochs: the bundle's defaults are the paper's and take a GPU
demo: $(READY)
	$(BIN)/python -m monai_ext phantom synapse demo/data --cases 24
	$(RUN) --config_file $(BUNDLE)/train.json --dataset_dir demo/data --epochs 3 $(LIGHT) $(DEMO)
	$(RUN) --config_file "['$(BUNDLE)/train.json','$(BUNDLE)/evaluate.json']" --dataset_dir demo/data $(DEMO)
	$(RUN) --config_file $(BUNDLE)/inference.json --dataset_dir demo/data/RawData/Training/img/img0001.nii.gz $(DEMO)
	@echo "Report: demo/report.html   Label of one scan: demo/img0001_seg.nii.gz"

# one thread per worker: two workers fill two cores, and the numbers do not depend on the machine
test: $(READY)
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest -n 2 --dist worksteal --durations=15 tests

# MONAI Label and MONAI Deploy need other versions of some packages, so they have an environment of their own
APPS := .venv-apps
apps:
	PYTHON=$(PYTHON) tools/apps/make_env.sh $(APPS)

test-apps: apps
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(APPS)/bin/python -m pytest -n 2 --dist loadfile --durations=10 tests_apps

# pages and docstrings; a warning is an error, and nothing is fetched
docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -q docs site

# built with the environment's own setuptools: nothing is fetched
dist: $(READY)
	rm -rf dist build
	$(BIN)/python -m build --no-isolation --outdir dist .

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) *.egg-info build dist demo site .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
