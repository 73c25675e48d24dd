# `make` lists the targets. The environment is set up once, when it is first needed, and shared by all of them.
PYTHON ?= python3.11
VENV := .venv
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin
GRID ?= grids/beta_T.yaml
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run sweep test lab app student site lint notebooks reproduce bench bench-full stress determinism mutants soak clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(STAMP) ## the main job: all notebooks for both published schedules, figures, one table
	$(BIN)/ddpm run

sweep: $(STAMP) ## a grid of experiments (GRID=grids/beta_T.yaml: about an hour), resumable; data/runs/<grid>
	$(BIN)/ddpm sweep $(GRID)

test: $(STAMP) lint ## all tests, and the committed notebooks executed and compared
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

lab: $(STAMP) ## JupyterLab on the notebooks, on this machine only
	$(BIN)/ddpm lab

app: $(STAMP) ## the main panels alone, as one page without code, on this machine only
	$(BIN)/ddpm app

student: $(STAMP) ## the notebooks without their answers, in data/runs/student
	$(BIN)/ddpm student

site: $(STAMP) ## the executed notebooks as a static web site (FOLDER=data/runs, or data/runs/<grid>)
	$(BIN)/ddpm site $(FOLDER)

notebooks: $(STAMP) ## execute the committed notebooks again and strip them
	$(BIN)/ddpm notebooks

reproduce: $(STAMP) ## train and measure everything that the project ships (a night; resumable)
	$(BIN)/ddpm reproduce

bench: $(VENV)/.bench ## speed, memory and quality per minute, side by side with other implementations (25 minutes)
	$(BIN)/python -m benchmarks

bench-full: $(STAMP) ## FID over network calls of every sampler, recorded for notebook 03 (an hour)
	$(BIN)/ddpm compare

stress: $(STAMP) ## kill it at random, spoil its files, give it bad parameters (20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m reliability stress

determinism: $(STAMP) ## the same sweep again, by other workers, in another order (5 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m reliability determinism

mutants: $(STAMP) ## how many of some 450 small faults in the science the tests notice (20 minutes; resumable)
	OMP_NUM_THREADS=1 $(BIN)/python -m reliability mutants

soak: $(STAMP) ## train and sample for half an hour: memory and open files, plotted
	$(BIN)/python -m reliability soak

clean: $(STAMP) ## delete what runs have written (data/runs)
	$(BIN)/ddpm clean

$(VENV)/.bench: $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
