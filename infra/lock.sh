#!/bin/sh
# Makes the locks of the images, after `make lock`: the pins that they share with requirements.lock are equal. Needs `uv`.
set -eu
cd "$(dirname "$0")/.."

compile() {
	uv pip compile "$@" --universal --python-version 3.11 --constraints requirements.lock --generate-hashes \
		--no-strip-extras --no-annotate --no-header --quiet --upgrade
}

compile pyproject.toml infra/images/requirements.in --extra prefect --output-file infra/images/requirements.lock
compile pyproject.toml infra/serverless/requirements.in --output-file infra/serverless/requirements.lock
