# Everything a newcomer needs: make demo, make test. See README.md.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint format tables site site-serve dist clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit('segadapt needs Python 3.10 or newer; run: make PYTHON=python3.11 ...' if sys.version_info < (3, 10) else 0)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

demo: $(STAMP)  ## from nothing to an adapted model and its report
	$(BIN)/segadapt demo --out demo

test: $(STAMP)  ## the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $${SEGADAPT_TEST_PROCESSES:-2}

lint: $(STAMP)  ## formatting, lint rules and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

tables: $(STAMP)  ## README, pages and pictures from benchmarks/*.json; TABLE=".../table.json ..." takes new ones in first
	$(BIN)/python -m benchmarks.render $(TABLE)

site: $(STAMP)  ## the documentation as a site in site/; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

site-serve: $(STAMP)  ## the same on http://127.0.0.1:8000, built again when a page changes; with the search
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

dist: $(STAMP)  ## source distribution and wheel of the last commit, checked, in dist/
	rm -rf build/source dist && mkdir -p build/source
	git archive HEAD | tar -x -C build/source
	$(BIN)/python -m pip install --quiet --constraint constraints.txt build twine
	$(BIN)/python -m build --outdir dist build/source
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf $(VENV) demo runs site build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
