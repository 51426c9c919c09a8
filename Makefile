# Everything a new machine needs: `make demo`, then `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check -qq
VIEWER := ohif_extensions
VIEWER_SOURCES := $(shell find $(VIEWER) -path $(VIEWER)/node_modules -prune -o -path $(VIEWER)/dist -prune -o -type f -print)
DEMO   := RADLOOP_CONFIG=config/environments/development.toml RADLOOP_DATA=$(CURDIR)/data

.PHONY: setup system viewer demo up down test e2e check bench chaos hostile fuzz lock sbom clean

setup: system $(VENV)/.installed viewer ## Debian packages, .venv, the plugin's own packages, the viewer

system:
	@./.ci/system-packages

# Every archive is pinned by its hash and nothing is built from source but this package, offline.
$(VENV)/.installed: pyproject.toml config/torch.lock config/requirements.lock config/plugin.lock
	@echo "installing Python packages into $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@./.ci/torch $(PIP)
	@$(PIP) install --require-hashes -r config/requirements.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation -e .
	@$(BIN)/radloop setup-plugin >/dev/null
	@$(BIN)/radloop pipelines --warm
	@touch $@

viewer: $(VIEWER)/dist/viewer/.built

# npm takes every archive by the hash in package-lock.json and runs no script of any package.
$(VIEWER)/node_modules/.installed: $(VIEWER)/package-lock.json
	@echo "installing the viewer's packages ..."
	@./.ci/node-version
	@cd $(VIEWER) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(VIEWER)/dist/viewer/.built: $(VIEWER)/node_modules/.installed $(VIEWER_SOURCES)
	@echo "building the viewer ..."
	@cd $(VIEWER) && npm run --silent build
	@touch $@

demo: setup ## Start everything, send a study, show the result; make demo STUDY=folder for your own
	@$(DEMO) $(BIN)/radloop demo $(if $(STUDY),"$(STUDY)")

up: setup ## Start the stack with the shipped settings
	@$(BIN)/radloop up

down: ## Stop the stack that `make demo` started
	@$(DEMO) $(BIN)/radloop down

check: setup ## Lint, format, types, import arrows, dangerous calls, house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -ll -c pyproject.toml -r .
	$(BIN)/python -m tests.house_rules
	cd $(VIEWER) && npm run --silent check

test: setup ## Unit, integration and end-to-end tests, with the real Orthanc, Redis and browsers
	@./.ci/system-packages --tests
	cd $(VIEWER) && npm run --silent test
	$(BIN)/pytest -n 2 --dist loadfile

e2e: setup ## The viewer alone: a real browser against the real stack
	@./.ci/system-packages --tests
	$(BIN)/pytest -n 2 --dist loadfile tests/e2e

bench: setup ## Speed, as ratios against a peer or a limit of the same run; JSON lines
	$(BIN)/python -m tests.bench $(NAME)

chaos: setup ## 300 studies and 200 kills, judged by set equality; half an hour
	$(BIN)/python -m tests.chaos --studies $(or $(STUDIES),300) --kills $(or $(KILLS),200) --seed $(or $(SEED),1)

hostile: setup ## 1,500 hostile files by every way in, 10,000 mutated associations, silent sockets
	$(BIN)/python -m tests.hostile run --count $(or $(COUNT),1500) --seed $(or $(SEED),1)
	$(BIN)/python -m tests.hostile port

fuzz: setup ## Every reader and parser, ten minutes each
	$(BIN)/python -m tests.fuzz --all --minutes $(or $(MINUTES),10)

lock: system ## Write config/*.lock anew after a change of pyproject.toml or constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python .ci/lock.py

sbom: setup ## Bill of materials of this installation, CycloneDX, in out/sbom.json
	@$(BIN)/python .ci/sbom.py

clean: ## Remove what setup made
	rm -rf $(VENV) *.egg-info build dist $(VIEWER)/node_modules $(VIEWER)/dist
