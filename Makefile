# What a developer or a first-time user asks for. `make help` lists it.
# Each of demo and test has a virtual environment of its own, made at the first call and kept for the next.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
DEMO := .venv-demo
TEST := .venv-test
INPUTS := pyproject.toml constraints.txt
# The tests with real volumes run where $JCL_REALDATA names a folder of them.
MARKS := not gpu$(if $(JCL_REALDATA),, and not realdata)

.PHONY: help demo test lint format bench smoke clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: $(DEMO)/.installed ## the whole path on generated volumes: a few minutes on two cores
	$(DEMO)/bin/jcl demo --out jcl-demo

test: lint ## lint, type check and all tests (slow ones too; real volumes where $JCL_REALDATA names them)
	$(TEST)/bin/python -c 'import importlib.util as u; assert not u.find_spec("torchvision"), "torchvision came along"'
	$(TEST)/bin/pytest -n auto --dist worksteal -m "$(MARKS)"

lint: $(TEST)/.installed
	$(TEST)/bin/ruff check
	$(TEST)/bin/ruff format --check
	$(TEST)/bin/pyright --pythonpath $(TEST)/bin/python
	$(TEST)/bin/lint-imports --no-logo pyproject.toml

format: $(TEST)/.installed ## put sources in order: ruff's fixes and format
	$(TEST)/bin/ruff check --fix
	$(TEST)/bin/ruff format

bench: $(TEST)/.installed ## measure every row of docs/performance.md on this machine, and write its table (an hour)
	$(TEST)/bin/python benchmarks/table.py --out docs/performance.md

smoke: $(TEST)/.installed ## run every benchmark once, small, to see that it works
	@printf '%s\n' benchmarks/*.py | xargs -P 2 -I @ sh -c \
		'said=$$(OMP_NUM_THREADS=1 $(TEST)/bin/python @ --smoke 2>&1); code=$$?; \
		printf "%s --smoke\n%s\n" @ "$$said"; exit $$code'

clean: ## remove the virtual environments and the demo's folder
	rm -rf $(DEMO) $(TEST) jcl-demo

$(DEMO)/.installed: $(INPUTS)
	$(call install,$(DEMO),.)

$(TEST)/.installed: $(INPUTS)
	$(call install,$(TEST),.[dev])

define install
	@[ -n "$(PYTHON)" ] || { echo "jcl needs Python 3.11 or newer, and none was found (python3 is $$(python3 --version 2>&1))." \
		"Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "jcl needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)" >&2; exit 1; }
	"$(PYTHON)" -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(2)'
	@touch $@
endef
