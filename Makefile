# `make` lists the targets. The environment is set up once, when it is first needed, and shared by all of them, with the
# newest Python from 3.11 on that can make one; `make PYTHON=/path/to/python …` chooses another. What only tests and
# maintenance need is installed when they first run. --no-compile: Python compiles what is imported, which is less.
PYTHONS := python3.13 python3.12 python3.11 python3 python
PYTHON ?= $(shell for python in $(PYTHONS); do \
	"$$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo "$$python" && break; \
	done)
VENV := .venv
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
BIN := $(VENV)/bin
INSTALL = $(BIN)/pip install --quiet --no-compile --constraint constraints.txt
GRID ?= grids/beta_T.yaml
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run sweep test quick lab lab-edit app student site lint types notebooks records reproduce bench bench-full stress \
	determinism mutants soak clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(STAMP) ## the main job: all notebooks for both published schedules, figures, one table
	$(BIN)/ddpm run

sweep: $(STAMP) ## a grid of experiments (GRID=grids/beta_T.yaml: about an hour), resumable; data/runs/<grid>
	$(BIN)/ddpm sweep $(GRID)

test: $(DEV) lint types ## all tests, and the committed notebooks executed and compared
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

quick: $(DEV) lint ## the fast tests alone, for every-day work (about two minutes on two cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal -m "not slow"

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(DEV)
	$(BIN)/mypy

lab: $(STAMP) ## JupyterLab on a copy of the notebooks (data/runs/lab), on this machine only
	$(BIN)/ddpm lab

lab-edit: $(DEV) ## JupyterLab on the notebooks themselves, for those who change the project
	$(BIN)/jupyter lab --ip=127.0.0.1 notebooks/01_forward_process.ipynb

app: $(STAMP) ## the main panels alone, as one page without code, on this machine only
	$(BIN)/ddpm app

student: $(STAMP) ## the notebooks without solutions, in data/runs/student
	$(BIN)/ddpm student

site: $(STAMP) ## the executed notebooks as a static web site (FOLDER=data/runs, or data/runs/<grid>)
	$(BIN)/ddpm site $(FOLDER)

notebooks: $(DEV) ## execute the committed notebooks again, and write the README's pictures in figures/
	$(BIN)/python -m maintenance notebooks

records: $(DEV) ## list what can be measured, shipped and put into the README
	$(BIN)/python -m maintenance records --help

reproduce: $(DEV) ## train and measure everything that the project ships (days on two cores; resumable)
	$(BIN)/python -m maintenance records reproduce

bench: $(VENV)/.bench ## speed, memory and quality per minute, side by side with other implementations (25 minutes)
	$(BIN)/python -m maintenance benchmarks

bench-full: $(DEV) ## FID over network calls of every sampler, recorded for notebook 03 (an hour)
	$(BIN)/python -m maintenance records samplers

stress: $(DEV) ## fault injection: random kills, corrupted files, invalid parameters (20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m maintenance reliability stress

determinism: $(DEV) ## the same sweep again, by other workers, in another order (5 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m maintenance reliability determinism

mutants: $(DEV) ## mutation testing: how many of some 450 small faults the tests notice (20 minutes; resumable)
	OMP_NUM_THREADS=1 $(BIN)/python -m maintenance reliability mutants

soak: $(DEV) ## train and sample for half an hour: memory and open files, plotted
	$(BIN)/python -m maintenance reliability soak

clean: $(STAMP) ## delete what runs have written (data/runs)
	$(BIN)/ddpm clean

$(VENV)/.bench: $(DEV)
	$(INSTALL) --editable '.[bench]'
	touch $@

$(DEV): $(STAMP)
	$(INSTALL) --editable '.[dev]'
	touch $@

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv was found (tried: $(PYTHONS))." \
		"Install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	touch $@
