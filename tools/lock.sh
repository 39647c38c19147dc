#!/usr/bin/env bash
# Write the pins: exact versions with hashes for Python 3.11 to 3.13, naming no package index (the machine chooses that).
set -euo pipefail
cd "$(dirname "$0")/.."
lock() { uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate "$@"; }
lock pyproject.toml --extra compression --extra test --extra dev --output-file constraints/dev.txt
lock pyproject.toml --constraints constraints/dev.txt --output-file constraints/run.txt
lock pyproject.toml --extra train --constraints constraints/dev.txt --output-file constraints/train.txt
