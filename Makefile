PYTHON ?= python3
# Windows, with GNU make and a shell from Git: where an environment keeps its programs.
BIN = $(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# As many processes as there are cores; tests that share fitted models stay in one of them (tests/conftest.py).
WORKERS ?= 2
PYTEST = -m pytest --numprocesses $(WORKERS) --dist loadscope

.PHONY: demo test test-fast test-core test-train test-scale coverage lint wheel bench clean

demo: .venv/core  ## Fit on clear Landsat tiles, find the cloudy ones, leave a report.
	.venv/$(BIN)/python examples/demo.py demo-output

test: test-core test-train  ## Run every test.

test-fast: .venv-test/dev  ## Run what tells most in little time, while working.
	.venv-test/$(BIN)/python $(PYTEST) -m "not slow and not train" --hypothesis-profile quick

test-core: .venv-test/dev tests/node/node_modules/installed  ## Run the tests that need no PyTorch.
	.venv-test/$(BIN)/python $(PYTEST) -m "not train"

test-train: .venv-train/train  ## Run the tests that need PyTorch.
	.venv-train/$(BIN)/python $(PYTEST) -m train

test-scale: .venv-scale/scale  ## Run the tests on Ray and in an object store; not part of make test, as Ray starts slowly.
	.venv-scale/$(BIN)/python -m pytest -m scale

SELECT ?= not train

coverage: .venv-test/dev tests/node/node_modules/installed  ## Say which lines and branches the tests take; pages in htmlcov/.
	.venv-test/$(BIN)/python $(PYTEST) -m "$(SELECT)" --cov=oddsight --cov-branch \
		--cov-report=term-missing:skip-covered --cov-report=html

lint: .venv-test/dev
	.venv-test/$(BIN)/ruff check .
	.venv-test/$(BIN)/ruff format --check .
	.venv-test/$(BIN)/mypy

wheel:  ## Build the source archive and the wheel into dist/, and run the demo from the wheel in a new environment.
	$(PYTHON) scripts/check_wheel.py

bench: .venv-test/dev  ## Regenerate the speed table: make bench DATA=folder/of/magnetic-tile
	.venv-test/$(BIN)/python benchmarks/speed.py $(DATA)

.venv/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/$(PIP_INSTALL) --editable .
	touch $@

.venv-test/dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-test
	.venv-test/$(PIP_INSTALL) --editable '.[dev]'
	touch $@

.venv-train/train: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-train
	.venv-train/$(PIP_INSTALL) --editable '.[dev,train]'
	touch $@

# moto is the object store of these tests.
.venv-scale/scale: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-scale
	.venv-scale/$(PIP_INSTALL) --editable '.[dev,scale]' 'moto[server]>=5'
	touch $@

# Without npm the tests in JavaScript are skipped, with a reason.
tests/node/node_modules/installed: tests/node/package-lock.json
	if command -v npm >/dev/null; then cd tests/node && npm ci --ignore-scripts --no-audit --no-fund --silent; fi
	mkdir -p tests/node/node_modules
	touch $@

clean:
	rm -rf .venv .venv-test .venv-train .venv-scale tests/node/node_modules demo-output dist htmlcov .coverage
