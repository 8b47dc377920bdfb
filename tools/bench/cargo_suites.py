#!/usr/bin/env python3
"""Runs cargo test, cargo nextest and muster on real Rust suites, in turns, and prints the medians.

    tools/bench/cargo_suites.py [--muster PATH] [--rounds 5] [--work DIR] [SUITE ...]

Suites: bytes (from crates.io, all its tests), bytes-light (without its two heaviest), workspace (several of muster's own
crates). Everything is built before it is timed. In each round every contender runs once, one after another, so that a slow
phase of the machine meets all of them. Counts that differ from cargo test's are an error. Needs cargo-nextest for its
columns, and crates.io (the first time). Everything it makes is under --work.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BYTES = "1.12.2"
HEAVY = ["stress", "advance_bytes_mut_remaining_capacity"]
OWN = ["muster-proto", "muster-core", "muster-frameworks", "muster-client", "muster-runner", "muster-coordinator"]
CARGO, NEXTEST, MUSTER, ALONE = "cargo test", "cargo nextest run", "muster", "muster --isolate process"
# Contender, what it is compared with, at most so many times its time.
LIMITS = {
    "bytes": [(MUSTER, CARGO, 1.2), (MUSTER, NEXTEST, 0.2)],
    "bytes-light": [(ALONE, NEXTEST, 0.6)],
    "workspace": [(MUSTER, CARGO, 1.2), (ALONE, NEXTEST, 1.0)],
}


class Bench:
    def __init__(self, work, muster):
        self.work, self.muster = work, muster
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("CARGO_", "MUSTER_"))}
        self.env |= {"RUST_BACKTRACE": "0", "CARGO_TERM_COLOR": "never", "CARGO_TARGET_DIR": str(work / "target")}
        has = subprocess.run(["cargo", "nextest", "--version"], capture_output=True)
        self.nextest = has.returncode == 0
        if not self.nextest:
            print("SKIPPED: cargo-nextest is not installed; its columns are left out")

    def suite(self, name):
        """Directory, words for cargo, tests to leave out."""
        if name == "workspace":
            return ROOT, [word for package in OWN for word in ("-p", package)] + ["--lib", "--tests"], []
        at = self.work / f"bytes-{BYTES}"
        if not at.exists():
            with tempfile.TemporaryDirectory(dir=self.work) as project:
                for argv in (["init", "--name", "fetch"], ["add", f"bytes@={BYTES}"], ["vendor", "vendored"]):
                    subprocess.run(["cargo", *argv], cwd=project, check=True, capture_output=True)
                shutil.copytree(Path(project) / "vendored/bytes", at)
            with open(at / "Cargo.toml", "a") as manifest:
                manifest.write("\n[workspace]\n")
        return at, ["--lib", "--tests"], HEAVY if name == "bytes-light" else []

    def argv(self, contender, name, words, without):
        skips = [word for test in without for word in ("--skip", test)]
        muster = [self.muster, "run", "--data-dir", str(self.work / "data" / name)]
        if contender == CARGO:
            return ["cargo", "test", "--no-fail-fast", *words, "--", *skips]
        if contender == NEXTEST:
            chosen = " or ".join(f"test(={test})" for test in without)
            return ["cargo", "nextest", "run", "--no-fail-fast", *words, *(["-E", f"not ({chosen})"] if chosen else [])]
        if contender == ALONE:
            muster += ["--isolate", "process"]
        return [*muster, "--", *words, "--", *skips]

    def run(self, contender, name):
        at, words, without = self.suite(name)
        began = time.monotonic()
        done = subprocess.run(self.argv(contender, name, words, without), cwd=at, env=self.env, text=True, capture_output=True)
        return time.monotonic() - began, counts(done, contender)


def counts(done, contender):
    text = done.stdout + done.stderr
    if contender == CARGO:
        found = re.findall(r"^test result: .*? (\d+) passed; (\d+) failed;", text, re.M)
        numbers = [sum(int(passed) for passed, _ in found), sum(int(failed) for _, failed in found)]
    elif contender == NEXTEST:
        line = re.search(r"^ *Summary .*", text, re.M)
        line = line.group() if line else ""
        numbers = [sum(int(n) for n in re.findall(r"(\d+) passed", line)), sum(int(n) for n in re.findall(r"(\d+) failed", line))]
    else:
        line = re.search(r"^\d+ selected = .*", text, re.M)
        line = line.group() if line else ""
        bad = re.findall(r"(\d+) (?:failed|crashed|timed_out|infra)", line)
        numbers = [sum(int(n) for n in re.findall(r"(\d+) passed", line)), sum(int(n) for n in bad)]
    if not numbers[0]:
        sys.exit(f"no counts in the output of {done.args}:\n{text[-3000:]}")
    return tuple(numbers)


def measure(bench, name, rounds):
    contenders = [CARGO, *([NEXTEST] if bench.nextest else []), MUSTER, ALONE]
    for contender in contenders:
        bench.run(contender, name)  # builds, and is not counted
    times, expected = {contender: [] for contender in contenders}, None
    for _ in range(rounds):
        for contender in contenders:
            took, counted = bench.run(contender, name)
            times[contender].append(took)
            expected = expected or counted
            if counted != expected:
                sys.exit(f"{name}: {contender} counts {counted}, cargo test {expected}")
    print(f"\n{name}: {expected[0]} passed, {expected[1]} failed; median of {rounds} (least to most)")
    middle = {contender: statistics.median(taken) for contender, taken in times.items()}
    for contender, taken in times.items():
        print(f"  {contender:26} {middle[contender]:7.2f} s   ({min(taken):.2f} to {max(taken):.2f})")
    kept = True
    for contender, peer, limit in LIMITS[name]:
        if peer in middle:
            ratio = middle[contender] / middle[peer]
            kept &= ratio <= limit
            print(f"  {contender}: {ratio:.2f} x {peer}, limit {limit}: {'kept' if ratio <= limit else 'NOT KEPT'}")
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--muster", default=str(ROOT / "target/release/muster"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "muster-bench-cargo")
    parser.add_argument("suites", nargs="*", metavar="SUITE", default=[], help=", ".join(LIMITS))
    args = parser.parse_args()
    if not Path(args.muster).exists():
        sys.exit(f"{args.muster} is not there: cargo build --release, or --muster PATH")
    for name in args.suites:
        if name not in LIMITS:
            sys.exit(f"no suite {name}: {', '.join(LIMITS)}")
    args.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.work, str(Path(args.muster).resolve()))
    kept = [measure(bench, name, args.rounds) for name in args.suites or LIMITS]
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
