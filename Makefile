# Each target first installs its packages in .venv. You need Python 3.11 or later, pip and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Selects tests that start no other process; `make test` runs the other tests too.
PURE := not (tensorflow or broker or browser or slow or alone)

.PHONY: demo check test lowest lint digits operations models people-models pixels quantization planning bench clean

demo: $(VENV)/host.stamp  ## split, deploy and run the digits model on three boards on this machine
	$(BIN)/edge-partition demo

check: $(VENV)/dev.stamp lint  ## check style, types and import contract; run the tests that start no process (90 seconds)
	$(BIN)/pytest --quiet --numprocesses 2 -m "$(PURE)"

# Tests that compute share the cores; so do tests that mostly wait for brokers, boards or browsers.
# Tests marked `alone` measure times or limit the processors, and run one by one.
test: $(VENV)/dev.stamp lint  ## run all checks and tests
	tests/install_tools.sh
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal tests/edge_partition
	$(BIN)/pytest --numprocesses 3 --dist loadfile -m "not alone" --ignore tests/edge_partition
	$(BIN)/pytest -m alone --ignore tests/edge_partition

# The tests cover boards, broker and monitor; the demo goes from a Keras model to answers.
lowest: $(VENV)-lowest/stamp  ## run a part of the tests and the demo with the lowest versions that pyproject.toml allows
	$(VENV)-lowest/bin/pytest --numprocesses 2 --dist loadfile -m "not alone and not browser" \
		tests/edge_core/mqtt tests/edge_core/program tests/device_agent/test_agent_serving.py \
		tests/mqtt_monitor/exports tests/mqtt_monitor/feeds
	$(VENV)-lowest/bin/edge-partition demo

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

digits: $(VENV)/dev.stamp  ## train the model in examples/digits again
	$(BIN)/python examples/digits/train.py

operations: $(VENV)/dev.stamp  ## try every Keras operation and write docs/operations.md
	$(BIN)/python generators/generate_operations.py

models: $(VENV)/dev.stamp  ## convert and split every Keras application and write docs/models.md
	$(BIN)/python generators/generate_models.py

people-models: $(VENV)/dev.stamp  ## run all commands on models from elsewhere and write their part of docs/models.md
	$(BIN)/python generators/generate_people_models.py

pixels: $(VENV)/dev.stamp  ## run pictures through every Keras application and write docs/pixels.md
	$(BIN)/python generators/generate_pixels.py

quantization: $(VENV)/dev.stamp  ## measure each quantization's cost and write docs/quantization.md
	$(BIN)/python generators/generate_quantization.py

planning: $(VENV)/dev.stamp  ## time the plans of every Keras application and write docs/planning.md
	$(BIN)/python generators/generate_planning.py

# BEFORE=DIR names another checkout, whose agent is measured in the same run.
bench: $(VENV)/dev.stamp  ## measure round trips, chains, clients, memory and starts (40 minutes) and write docs/benchmarks.md
	$(BIN)/python benchmarks/round_trip.py --keep $(if $(BEFORE),--against $(BEFORE))
	$(BIN)/python benchmarks/chain.py --keep
	$(BIN)/python benchmarks/many_clients.py --keep
	$(BIN)/python benchmarks/flat_memory.py --keep
	$(BIN)/python benchmarks/agent_start.py --keep
	$(BIN)/python benchmarks/death_of_replica.py --keep
	$(BIN)/python generators/generate_benchmarks.py

clean:
	rm -rf $(VENV) .venv-* build *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# uv can install the lowest versions; pip cannot. The test tools may have any version.
$(VENV)-lowest/stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(VENV)-lowest $(VENV)-lowest/bin/uv pip install --quiet --resolution lowest-direct \
		-e '.[host,monitor,monitor-otel]'
	VIRTUAL_ENV=$(VENV)-lowest $(VENV)-lowest/bin/uv pip install --quiet \
		hypothesis jinja2 pytest pytest-timeout pytest-xdist
	touch $@

$(VENV)/host.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[host]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	# Without dependencies: these would install a second TensorFlow beside tensorflow-cpu.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'tf-keras>=2.18'
	touch $@ $(VENV)/host.stamp
