#!/usr/bin/env python3
"""Runs go test and muster on Go modules, in turns, and prints the medians.

    tools/bench/go_suites.py [--muster PATH] [--rounds 5] [--work DIR] [SUITE ...]

Suites: text (golang.org/x/text, from Debian's package golang-golang-x-text-dev), dominated (a module that is made here: one
package of eight tests that compute for half a second each, and three small ones). Nothing is cached between runs but what
was compiled: `go test -count=1`. Counts that differ from go test's are an error. Needs Go. Everything it makes is under
--work.
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
TEXT = Path("/usr/share/gocode/src/golang.org/x/text")
GO, MUSTER = "go test -count=1 ./...", "muster"
# At most so many times go test's time.
LIMITS = {"text": 1.1, "dominated": 0.9}
WORK = """package big

import "testing"

func fib(n int) int {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

"""


def make_text(at):
    if not TEXT.exists():
        sys.exit(f"{TEXT} is not there: apt-get install golang-golang-x-text-dev")
    shutil.copytree(TEXT, at)
    (at / "go.mod").write_text("module golang.org/x/text\n\ngo 1.17\n")


def make_dominated(at):
    at.mkdir(parents=True)
    (at / "go.mod").write_text("module example.com/dominated\n\ngo 1.17\n")
    (at / "big").mkdir()
    tests = "".join(f"func TestBig{n}(t *testing.T) {{\n\tif fib(38) == 0 {{\n\t\tt.Fatal()\n\t}}\n}}\n\n" for n in range(8))
    (at / "big/big_test.go").write_text(WORK + tests)
    for name in ("small1", "small2", "small3"):
        (at / name).mkdir()
        (at / name / "small_test.go").write_text(f'package {name}\n\nimport "testing"\n\nfunc TestSmall(t *testing.T) {{}}\n')


MAKE = {"text": make_text, "dominated": make_dominated}


def environment():
    env = {key: value for key, value in os.environ.items() if not key.startswith("MUSTER_")}
    return env | {"GOPROXY": "off", "GOFLAGS": "-mod=mod", "GO111MODULE": "on"}


def run(contender, at, muster, data):
    argv = ["go", "test", "-count=1", "./..."] if contender == GO else [muster, "run", "--framework", "go", "--data-dir", str(data)]
    began = time.monotonic()
    done = subprocess.run(argv, cwd=at, env=environment(), text=True, capture_output=True)
    return time.monotonic() - began, done


def counts_of_go(at):
    done = subprocess.run(["go", "test", "-count=1", "-v", "./..."], cwd=at, env=environment(), text=True, capture_output=True)
    ends = re.findall(r"^--- (PASS|FAIL|SKIP):", done.stdout, re.M)
    return {"passed": ends.count("PASS"), "skipped": ends.count("SKIP"), "failed": ends.count("FAIL")}


def counts_of_muster(done):
    line = re.search(r"^\d+ selected = .*", done.stdout, re.M)
    if not line:
        sys.exit(f"no counts in the output of {done.args}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    number = {what: int(count) for count, what in re.findall(r"(\d+) (\w+)", line.group())}
    bad = sum(number.get(what, 0) for what in ("failed", "crashed", "timed_out", "infra"))
    return {"passed": number.get("passed", 0), "skipped": number.get("skipped", 0), "failed": bad}


def measure(name, work, muster, rounds):
    at = work / name
    if not at.exists():
        MAKE[name](at)
    expected, times = counts_of_go(at), {GO: [], MUSTER: []}
    run(MUSTER, at, muster, work / "data" / name)  # compiles what only it needs, and makes history
    for _ in range(rounds):
        for contender, taken in times.items():
            took, done = run(contender, at, muster, work / "data" / name)
            taken.append(took)
            if contender == MUSTER and counts_of_muster(done) != expected:
                sys.exit(f"{name}: muster counts {counts_of_muster(done)}, go test {expected}")
    print(f"\n{name}: {expected}; median of {rounds} (least to most)")
    middle = {contender: statistics.median(taken) for contender, taken in times.items()}
    for contender, taken in times.items():
        print(f"  {contender:26} {middle[contender]:7.2f} s   ({min(taken):.2f} to {max(taken):.2f})")
    ratio = middle[MUSTER] / middle[GO]
    kept = ratio <= LIMITS[name]
    print(f"  muster: {ratio:.2f} x go test, limit {LIMITS[name]}: {'kept' if kept else 'NOT KEPT'}")
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--muster", default=str(ROOT / "target/release/muster"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "muster-bench-go")
    parser.add_argument("suites", nargs="*", metavar="SUITE", default=[], help=", ".join(LIMITS))
    args = parser.parse_args()
    if not Path(args.muster).exists():
        sys.exit(f"{args.muster} is not there: cargo build --release, or --muster PATH")
    args.work.mkdir(parents=True, exist_ok=True)
    muster = str(Path(args.muster).resolve())
    kept = [measure(name, args.work, muster, args.rounds) for name in args.suites or LIMITS]
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
