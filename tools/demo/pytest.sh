#!/usr/bin/env bash
# Builds muster, fetches a real suite (more-itertools, 765 tests) with pytest from PyPI, and runs it.
# Arguments are given to `muster run`. Needs Rust, a C compiler, and Python 3.9 or newer with venv; everything is made
# below target/.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
demo=$target/demo/pytest
suite=more-itertools==11.2.1
python=$demo/venv/bin/python

cargo build --release --locked --bin muster
mkdir -p "$demo"
if [ ! -x "$python" ]; then
    # Debian keeps venv in a package of its own.
    python3 -m venv "$demo/venv" || {
        [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "python3 has no venv: install it (Debian: apt-get install python3-venv)" >&2; exit 1; }
        apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
        rm -rf "$demo/venv" && python3 -m venv "$demo/venv"
    }
fi
pip() { "$python" -m pip --quiet --disable-pip-version-check "$@"; }
pip install pytest==9.2.0 hypothesis
if [ ! -d "$demo/$suite" ]; then
    rm -rf "$demo/fetched" && mkdir "$demo/fetched"
    pip download --no-deps --no-binary :all: --dest "$demo/fetched" "$suite"
    tar -xzf "$demo"/fetched/*.tar.gz -C "$demo/fetched"
    mv "$demo"/fetched/*/ "$demo/$suite"
fi
cd "$demo/$suite"
exec "$target/release/muster" run tests --python "$python" --data-dir "$demo/data" "$@"
