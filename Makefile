# What a developer or a first-time user asks for. `make help` lists it.
# Each of demo and test has a virtual environment of its own, made at the first call and kept for the next.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
DEMO := .venv-demo
TEST := .venv-test
INPUTS := pyproject.toml constraints.txt
# The tests with real volumes run where $JCL_REALDATA names a folder of them.
MARKS := not gpu$(if $(JCL_REALDATA),, and not realdata)$(if $(JCL_LONG),, and not long)

.PHONY: help demo test chromium lint format docs bench smoke clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: $(DEMO)/.installed ## the whole path on generated volumes: four to six minutes on two cores
	$(DEMO)/bin/jcl demo --out jcl-demo

test: lint chromium ## lint, type check and all tests (slow ones too; real volumes where $JCL_REALDATA names them; JCL_LONG=1: more)
	$(TEST)/bin/python -c 'import importlib.util as u; assert not u.find_spec("torchvision"), "torchvision came along"'
	$(TEST)/bin/pytest -n auto --dist worksteal -m "$(MARKS)"

# The report's page is tested in it. Only root is not asked first; AS_ROOT=sudo lets others install it too.
chromium:
	@for program in chromium chromedriver; do command -v $$program >/dev/null || missing=1; done; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && { [ "$$(id -u)" -eq 0 ] || [ -n "$(AS_ROOT)" ]; }; then \
		echo "installing Chromium, in which the report's page is tested"; \
		{ $(AS_ROOT) apt-get update -qq && $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; } || \
		echo "Chromium cannot be installed here; the tests of the report's page will be skipped" >&2; \
	fi

lint: $(TEST)/.installed
	$(TEST)/bin/ruff check
	$(TEST)/bin/ruff format --check
	$(TEST)/bin/pyright --pythonpath $(TEST)/bin/python
	$(TEST)/bin/lint-imports --no-logo pyproject.toml

format: $(TEST)/.installed ## put sources in order: ruff's fixes and format
	$(TEST)/bin/ruff check --fix
	$(TEST)/bin/ruff format

docs: $(TEST)/.installed ## build the pages of docs/ into site/, to be opened from there; every warning is an error
	NO_MKDOCS_2_WARNING=1 $(TEST)/bin/mkdocs build --strict --quiet

bench: $(TEST)/.installed ## measure every row of docs/performance.md on this machine, and write its table (an hour)
	$(TEST)/bin/python benchmarks/table.py --out docs/performance.md

smoke: $(TEST)/.installed ## run every benchmark once, small, to see that it works
	@printf '%s\n' benchmarks/*.py | xargs -P 2 -I @ sh -c \
		'said=$$(OMP_NUM_THREADS=1 $(TEST)/bin/python @ --smoke 2>&1); code=$$?; \
		printf "%s --smoke\n%s\n" @ "$$said"; exit $$code'

clean: ## remove the virtual environments and the demo's folder
	rm -rf $(DEMO) $(TEST) jcl-demo site

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
