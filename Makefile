# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

# Nothing that is started from here asks a server, reports to anyone, or writes outside this folder.
LOCAL := env -u PREFECT_API_URL -u PREFECT_PROFILE DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false \
	PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=180 PREFECT_RUNNER_SERVER_LOG_LEVEL=error

.PHONY: demo up down apply apply-check test soak chaos check bench lock clean serverless system-packages

demo: .venv/ready
	$(BIN)/python examples/draw_photos.py .demo/photos
	$(LOCAL) PREFECT_HOME=$(CURDIR)/.demo/prefect FANREEL_STORE=$(CURDIR)/.demo/store \
		$(BIN)/python -m flows.render_slideshow examples/demo.yaml

# A Prefect server of this machine and a worker for each pool, in the background; again it starts what is missing.
PORT ?= 4200
up: .venv/ready
	$(BIN)/python examples/draw_photos.py .demo/photos
	mkdir -p .demo/up
	$(LOCAL) PREFECT_HOME=$(CURDIR)/.demo/up/prefect FANREEL_STORE=$${FANREEL_STORE:-$(CURDIR)/.demo/store} \
		$(BIN)/python -m deployments.local_stack up --port $(PORT)

down: .venv/ready
	mkdir -p .demo/up
	$(LOCAL) PREFECT_HOME=$(CURDIR)/.demo/up/prefect $(BIN)/python -m deployments.local_stack down

# To and against the server that PREFECT_API_URL names.
apply: .venv/ready
	$(BIN)/python -m deployments.apply

apply-check: .venv/ready
	$(BIN)/python -m deployments.apply --check

# Two modules at a time: much of a test is waiting for a process to start or to end.
PYTEST = $(LOCAL) $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --durations=30

test: .venv/ready
	$(PYTEST) -m "not soak and not chaos"

# The farm's module first: it is the longest, though not the one with the most tests.
soak: .venv/ready
	$(PYTEST) --no-loadscope-reorder -m "soak and not alone and not chaos"
	$(LOCAL) $(BIN)/python -m pytest -m "soak and alone and not chaos"

# Up to an hour; before a change to pools, sessions, store or join is called done.
chaos: .venv/ready
	$(PYTEST) --no-loadscope-reorder -m chaos

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# Some 50 minutes of both cores, on a machine that does nothing else; the table is docs/benchmarks.md's.
bench: .venv/ready
	$(LOCAL) $(BIN)/python -m benchmarks $(BENCH)

# What some tests of `make soak` look at the UI with, what the emulated NVIDIA driver of others is built from, and
# wrong clocks; without it they skip, and say so.
system-packages:
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; }
	printf '#include <stdint.h>\n#include <x264.h>\n#include <ffnvcodec/nvEncodeAPI.h>\n' | gcc -E - >/dev/null 2>&1 || \
		{ apt-get update -qq && apt-get install -qq -y --no-install-recommends gcc libc6-dev libx264-dev libffmpeg-nvenc-dev; }
	command -v faketime >/dev/null || \
		{ apt-get update -qq && apt-get install -qq -y --no-install-recommends faketime; }

# RunPod's package, in an environment of its own: a test has its local test mode render with infra/serverless/handler.py.
serverless: .serverless/ready

.serverless/ready: infra/serverless/requirements.lock
	$(PYTHON) -m venv .serverless
	.serverless/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	touch $@

# Every pin with its hashes and no address of an index, so that it installs from any.
lock:
	uv pip compile pyproject.toml --extra prefect --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-strip-extras --no-annotate --no-header --quiet --upgrade --output-file requirements.lock
	sh infra/lock.sh

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv .demo .serverless
