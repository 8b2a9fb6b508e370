# make label   install into .venv and label a drawn street, end to end, through Ray
# make test    install into .venv and run the default tests (under 10 minutes on 2 cores)
# make check   style and types
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= out

.PHONY: label test check clean

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.12"'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

label: $(VENV)/.installed
	$(BIN)/gsvnet label --demo --out $(OUT)

test: $(VENV)/.installed
	$(BIN)/python -m pytest

check: $(VENV)/.installed
	$(BIN)/ruff check gsvnet jobs tests
	$(BIN)/ruff format --check gsvnet jobs tests
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info
