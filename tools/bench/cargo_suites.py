#!/usr/bin/env python3
"""Runs cargo test, cargo nextest and muster on real Rust suites, in turns, and prints the medians.

    tools/bench/cargo_suites.py [--muster PATH] [--rounds 5] [--work DIR] [SUITE ...]

Suites: bytes (from crates.io, all its tests), bytes-light (without its two heaviest), workspace (several of muster's own
crates). Everything is built before it is timed. In each round every contender runs once, one after another, so that a slow
phase of the machine meets all of them. Counts that differ from cargo test's are an error. Needs cargo-nextest for its
columns, and crates.io (the first time). Everything it makes is under --work.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import common
from common import ROOT

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
        self.env = common.without("CARGO_") | {"RUST_BACKTRACE": "0", "CARGO_TERM_COLOR": "never", "CARGO_TARGET_DIR": str(work / "target")}
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
        took, done = common.timed(self.argv(contender, name, words, without), at, self.env)
        return took, counts(done, contender)

    def measure(self, name, rounds):
        contenders = [CARGO, *([NEXTEST] if self.nextest else []), MUSTER, ALONE]
        for contender in contenders:
            self.run(contender, name)  # builds, and is not counted
        times, expected = {contender: [] for contender in contenders}, None
        for _ in range(rounds):
            for contender in contenders:
                took, counted = self.run(contender, name)
                times[contender].append(took)
                expected = expected or counted
                if counted != expected:
                    sys.exit(f"{name}: {contender} counts {counted}, cargo test {expected}")
        middle = common.show(f"{name}: {expected[0]} passed, {expected[1]} failed", times)
        judged = [common.judge(middle, contender, peer, limit) for contender, peer, limit in LIMITS[name] if peer in middle]
        return all(judged)


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
        counted = common.ledger(done)
        numbers = [counted["passed"], counted["bad"]]
    if not numbers[0]:
        common.no_counts(done)
    return tuple(numbers)


if __name__ == "__main__":
    common.main(__doc__, "cargo", LIMITS, lambda work, muster: Bench(work, muster).measure)
