# make serve: a hub to try, on 127.0.0.1:3000. ARGS="--listen :3001" reaches the hub.
# make test:  the linters, the type checker and every test. ARGS="-k name" reaches pytest; make lint is the first two.
# make simulate: 2,000 worlds in which hubs are killed, cut off and starved, each from its seed; SEEDS=17 plays that one again.
# make mutants: bugs that are planted one at a time, and how soon the simulation finds each. ARGS="relay" plants those.
# make fuzz: bytes that reach ever more of what reads them, a minute for each reader. ARGS="--seconds 600 heads" is longer.
# make soak: what docs/reliability.md promises, for long, some 40 minutes; writes the figures there.
# make image: the container image mercure-hub. ARGS="--build-arg PYTHON_IMAGE=…" reaches docker build.
# make conformance: what a browser's page can expect of a hub; CONFORMANCE_URL=… takes another hub than this one.
# make coverage: what the tests reach of hub/ and transports/ in their own process; fails below the floor.
# make test-bare: a quick part of the tests where redis-server, chromium, a compiler and curl are missing.
# make test-chart: the Helm chart, rendered and checked without a cluster; builds Helm with Go where it is missing.
# make test-browser: pages, examples and proxies with a browser, and its conformance; SCREENSHOTS=folder keeps what it shows.
# make test-package: wheel and sdist, built, installed into fresh environments, and used there.
# make test-swarm: rolling updates in a real Swarm, as root; ARGS="standby redis" measures those alone.
# make bench: measures the hub against a bare write() loop, Nchan and sse-starlette, and writes docs/performance/.
# make bench-quick: a minute of it, as continuous integration does; fails where a ratio misses its bar by far.
# make docs: the documentation as a site, in site/; fails on a broken link. make diagrams: its pictures, with graphviz.
# make replicas: two hubs on one Valkey, and an update that goes from one to the other. REDIS=redis://… takes that one.
# make sbom:  what the image installs, as CycloneDX, in dist/. make audit: what is known against it, asked on the network.
# make pins:  resolve the requirement files anew, with hashes, for Python 3.11.

.DEFAULT_GOAL := serve
.PHONY: serve test simulate mutants soak fuzz lint pytest coverage conformance test-bare test-chart test-browser test-package test-swarm image bench bench-quick replicas docs diagrams sbom audit pins clean

ARGS ?=
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --numprocesses=auto --dist=loadfile
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PROJECT := $(INSTALL) --no-deps --no-build-isolation --editable .

serve: .venv/.installed
	@exec $(BIN)/mercure-hub serve --dev $(ARGS)

# The linters beside the tests, and a file of tests on each core. `make pytest ARGS="-n 0 -s"` shows what is measured.
test: .venv/.installed-dev
	@$(MAKE) --no-print-directory --jobs=2 lint pytest

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

pytest: .venv/.installed-dev
	$(PYTEST) --ignore=tests/browser $(ARGS)

SEEDS ?= 1-2000

simulate: .venv/.installed-dev
	@$(BIN)/python -m tests.simulation $(SEEDS) $(ARGS)

fuzz: .venv/.installed-fuzz
	@$(BIN)/python -m tests.fuzzing $(ARGS)

soak: .venv/.installed-dev
	@$(BIN)/python -m tests.reliability

mutants: .venv/.installed-dev
	@$(BIN)/python -m tests.simulation.mutants $(ARGS)

test-browser: .venv/.installed-dev
	$(PYTEST) tests/browser $(ARGS)

coverage: .venv/.installed-dev
	$(PYTEST) --ignore=tests/browser --cov $(ARGS)

conformance: .venv/.installed-dev
	$(BIN)/python -m pytest tests/browser/test_conformance.py $(ARGS)

test-bare: .venv/.installed-dev
	@$(BIN)/python -m tests.bare

test-chart: .venv/.installed-dev
	@$(BIN)/python -m tests.chart

test-package: .venv/.installed-dev
	@$(BIN)/python -m tests.packaging

test-swarm: .venv/.installed-dev
	$(BIN)/python -m tests.swarm $(ARGS)

image:
	docker build $(ARGS) --tag mercure-hub .

bench: .venv/.installed-bench
	@$(BIN)/python -m bench $(ARGS)

bench-quick: .venv/.installed-dev
	@$(BIN)/python -m bench --quick

replicas: .venv/.installed-dev
	@$(BIN)/python -m tests.replicas $(REDIS)

.venv/.installed: requirements.txt requirements-build.txt pyproject.toml | $(BIN)/python
	$(INSTALL) --require-hashes -r requirements.txt -r requirements-build.txt
	$(PROJECT)
	@touch $@

.venv/.installed-dev: requirements-dev.txt pyproject.toml | $(BIN)/python
	$(INSTALL) --require-hashes -r requirements-dev.txt
	$(PROJECT)
	@touch $@ .venv/.installed

.venv/.installed-bench: requirements-bench.txt .venv/.installed-dev
	$(INSTALL) --require-hashes -r requirements-bench.txt
	@touch $@

.venv/.installed-fuzz: requirements-fuzz.txt .venv/.installed-dev
	$(INSTALL) --require-hashes -r requirements-fuzz.txt
	@touch $@

.venv/.installed-docs: requirements-docs.txt .venv/.installed-dev
	$(INSTALL) --require-hashes -r requirements-docs.txt
	@touch $@

# The first interpreter that is new enough and can make an environment: Debian packs ensurepip apart.
$(BIN)/python:
	@for python in python3.13 python3.12 python3.11 python3; do \
	  "$$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  "$$python" -m venv .venv && exit 0; \
	  rm -rf .venv; \
	done; \
	echo 'No Python of 3.11 or newer can make an environment here: apt-get install python3-venv' >&2; exit 1

# The index and the folders of this machine stay out of the files: no option is emitted, the header names make alone.
COMPILE := env -u PIP_FIND_LINKS CUSTOM_COMPILE_COMMAND="make pins" .venv/pins/bin/pip-compile --quiet \
  --generate-hashes --strip-extras --allow-unsafe --upgrade --no-emit-options --no-emit-index-url \
  --no-emit-find-links --no-emit-trusted-host
LISTED := python3.11 -c 'import sys, tomllib; table = tomllib.load(open("pyproject.toml", "rb")); \
  print(*table[sys.argv[1]][sys.argv[2]], sep="\n")'

pins:
	python3.11 -m venv .venv/pins
	.venv/pins/bin/pip install --quiet --upgrade pip pip-tools
	$(COMPILE) --extra redis --extra postgres --extra migrate --output-file requirements.txt pyproject.toml
	$(COMPILE) --extra redis --extra postgres --extra migrate --extra otel -c requirements.txt --output-file requirements-otel.txt pyproject.toml
	$(LISTED) build-system requires | $(COMPILE) -c requirements.txt --output-file requirements-build.txt -
	$(LISTED) dependency-groups dev \
	  | $(COMPILE) --extra redis --extra postgres --extra migrate --extra otel -c requirements-otel.txt -c requirements-build.txt --output-file requirements-dev.txt pyproject.toml -
	$(LISTED) dependency-groups bench | $(COMPILE) -c requirements-dev.txt --output-file requirements-bench.txt -
	$(LISTED) dependency-groups docs | $(COMPILE) -c requirements-dev.txt --output-file requirements-docs.txt -
	$(LISTED) dependency-groups fuzz | $(COMPILE) --output-file requirements-fuzz.txt -
	$(LISTED) dependency-groups release | $(COMPILE) --output-file requirements-release.txt -

# Apart from everything else: what looks at the dependencies need not agree with them.
.venv/release/.installed: requirements-release.txt | $(BIN)/python
	$(BIN)/python -m venv .venv/release
	.venv/release/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-release.txt
	@touch $@

sbom: .venv/release/.installed
	@mkdir -p dist
	@.venv/release/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
	  --output-file dist/mercure-hub.cdx.json requirements.txt
	@echo dist/mercure-hub.cdx.json

audit: .venv/release/.installed
	@.venv/release/bin/pip-audit --require-hashes --disable-pip --strict -r requirements.txt

docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# With graphviz.
diagrams: $(patsubst %.dot,%.svg,$(wildcard docs/diagrams/*.dot))

docs/diagrams/%.svg: docs/diagrams/%.dot
	dot -Tsvg $< | sed -e 's/<!--.*-->//' -e '/^<!--/,/-->/d' >$@

clean:
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .bench .coverage
