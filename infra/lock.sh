#!/bin/sh
# New locks for the images, after `make lock`: every pin that requirements.lock has too is the same one. Needs `uv`.
set -eu
cd "$(dirname "$0")/.."

compile() {
	uv pip compile "$@" --universal --python-version 3.11 --constraints requirements.lock --generate-hashes \
		--no-strip-extras --no-annotate --no-header --quiet --upgrade
}

compile pyproject.toml infra/images/requirements.in --extra prefect --output-file infra/images/requirements.lock
compile pyproject.toml infra/serverless/requirements.in --output-file infra/serverless/requirements.lock
