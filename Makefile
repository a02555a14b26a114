# make demo   from nothing to a trained model and its report       make test   lint, types, tests
# Another build of torch:  make demo TORCH='torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu'
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without TORCH=… the build that was chosen last stays.
TORCH ?= $(or $(shell cat $(VENV)/.wanted-torch 2>/dev/null),torch==2.13.0)

.PHONY: help demo test install clean FORCE
.DELETE_ON_ERROR:

help:
	@sed -n '1,2s/^# //p' Makefile

demo: $(VENV)/.installed
	$(BIN)/headwater run recipes/quickstart.yaml

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

install: $(VENV)/.installed

clean:
	rm -rf $(VENV)

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "headwater needs Python 3.11 or newer: give one with \`make $(MAKECMDGOALS) PYTHON=python3.12\`." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "$(PYTHON) cannot make a virtual environment: install its venv package (Debian, Ubuntu: python3-venv)." >&2; exit 1; }
	@touch $@

# Changes only when the wanted build of torch does.
$(VENV)/.wanted-torch: $(VENV)/.made FORCE
	@echo "$(TORCH)" | cmp -s - $@ || echo "$(TORCH)" > $@

$(VENV)/.torch: $(VENV)/.wanted-torch
	@$(BIN)/pip install --disable-pip-version-check $(TORCH) || \
	  { rm -f $(VENV)/.wanted-torch; echo "pip cannot install \`$(TORCH)\` here: check the network, or choose another build with \`make $(MAKECMDGOALS) TORCH='torch==…'\`." >&2; exit 1; }
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	@$(BIN)/pip install --disable-pip-version-check -e '.[serve]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(BIN)/pip install --disable-pip-version-check -e '.[test]'
	@touch $@
