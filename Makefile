# make run   a virtual environment, the package, and the main job on data that need no download
# make test  the same environment with the test tools, then the checks and the tests
# make docs  the documentation as a site, its links checked
# make coverage  the tests once more, with the lines that none of them reaches
# make bench the same environment, then ratios against the published algorithm, RecBole and the machine

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
TRAIN_SECONDS ?= 90

.PHONY: run test lint coverage bench docs clean

run: $(VENV)/installed
	$(BIN)/python run_recbole.py --model=HSTU,HSTUText,SASRec --dataset=ml-100k \
		--windows=all --MAX_ITEM_LIST_LENGTH=50 --train_seconds=$(TRAIN_SECONDS)

test: lint
	$(BIN)/python -m pytest -n 2 --dist=worksteal

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Apart from the tests: before Python 3.12 the tracing costs them three quarters of their time.
coverage: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist=worksteal --cov --cov-report=term:skip-covered

# As the commands of the package set it.
bench: export GOMP_SPINCOUNT = 30000
bench: $(VENV)/installed
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/epoch.py

# A site in build/site; a link that leads nowhere is an error.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/installed-docs
	$(BIN)/mkdocs build --strict

$(VENV)/installed-docs: setup.cfg constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt mkdocs-material
	touch $@

# RecBole pins a ray that no Python from 3.12 on has and nothing here imports. setup.cfg leaves RecBole
# out there; --no-deps brings it, and pip would call the missing ray a conflict from then on.
$(VENV)/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps recbole
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --no-warn-conflicts --constraint constraints.txt \
		--editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV)
