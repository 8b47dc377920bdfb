#!/usr/bin/env bash
# Tests the Python side of muster's runners: crates/frameworks/python. Arguments: requirements to install beside pytest's
# newest version (such as pytest==7.0.1), for trying others.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${CARGO_TARGET_DIR:-target}/test-python/${*:-newest}
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/python" -m pip --quiet --disable-pip-version-check install "${@:-pytest}" pytest-xdist pytest-cov \
    pytest-randomly pytest-timeout pytest-rerunfailures pytest-asyncio hypothesis
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider -p no:randomly crates/frameworks/python/tests
