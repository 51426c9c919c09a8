# Everything a new machine needs: `make demo`, then `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check -qq
DEMO   := RADLOOP_CONFIG=config/environments/development.toml RADLOOP_DATA=$(CURDIR)/data

.PHONY: setup system demo up down test check bench clean

setup: system $(VENV)/.installed ## Debian packages, .venv, and the plugin's own packages

system:
	@./.ci/system-packages

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing Python packages into $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@PIP_CONSTRAINT=constraints.txt $(PIP) install -e ".[plugin,services,nodes,dev]"
	@rm -rf $(VENV)/radloop-plugin
	@$(PIP) install -c constraints.txt --target $(VENV)/radloop-plugin rq redis async-timeout
	@$(BIN)/radloop pipelines --warm
	@touch $@

demo: setup ## Start everything, send a study, show the result; make demo STUDY=folder for your own
	@$(DEMO) $(BIN)/radloop demo $(if $(STUDY),"$(STUDY)")

up: setup ## Start the stack with the shipped settings
	@$(BIN)/radloop up

down: ## Stop the stack that `make demo` started
	@$(DEMO) $(BIN)/radloop down

check: setup ## Lint, format, types, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup ## Unit, integration and end-to-end tests, with the real Orthanc and Redis
	@./.ci/system-packages --tests
	$(BIN)/pytest

bench: setup ## Speed, as ratios against a peer or a limit of the same run; JSON lines
	$(BIN)/python -m tests.bench $(NAME)

clean: ## Remove what setup made
	rm -rf $(VENV) *.egg-info build dist
