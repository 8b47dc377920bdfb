# `just` lists what there is to do here.

_list:
    @just --list

# What must pass before a change lands.
ci:
    .ci/run

# All tests.
test:
    cargo test --workspace

# Lints, as strict as CI.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Many seeds of the simulator: just sim 0..100000
sim seeds="0..20000":
    cargo run -p muster-sim --profile sim -- run --seeds {{seeds}}

# Which checker catches which planted bug, and after how many seeds.
planted:
    cargo run -p muster-sim --profile sim --features planted -- planted

# Figures of plain commands, each beside its floor.
bench:
    cargo build --release
    target/release/muster bench run
