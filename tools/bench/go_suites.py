#!/usr/bin/env python3
"""Runs go test and muster on Go modules, in turns, and prints the medians.

    tools/bench/go_suites.py [--muster PATH] [--rounds 5] [--work DIR] [SUITE ...]

Suites: text (golang.org/x/text, from Debian's package golang-golang-x-text-dev), dominated (a module that is made here: one
package of eight tests that compute for half a second each, and three small ones). Nothing is cached between runs but what
was compiled: `go test -count=1`. Counts that differ from go test's are an error. Needs Go. Everything it makes is under
--work.
"""

import re
import shutil
import sys
from pathlib import Path

import common

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


def run(argv, at):
    env = common.without() | {"GOPROXY": "off", "GOFLAGS": "-mod=mod", "GO111MODULE": "on"}
    return common.timed(argv, at, env)


def counts_of_go(at):
    _, done = run(["go", "test", "-count=1", "-v", "./..."], at)
    ends = re.findall(r"^--- (PASS|FAIL|SKIP):", done.stdout, re.M)
    return {"passed": ends.count("PASS"), "skipped": ends.count("SKIP"), "bad": ends.count("FAIL")}


def measure(work, muster, name, rounds):
    at = work / name
    if not at.exists():
        MAKE[name](at)
    argv = {
        GO: ["go", "test", "-count=1", "./..."],
        MUSTER: [muster, "run", "--framework", "go", "--data-dir", str(work / "data" / name)],
    }
    expected, times = counts_of_go(at), {GO: [], MUSTER: []}
    run(argv[MUSTER], at)  # compiles what only it needs, and makes history
    for _ in range(rounds):
        for contender, taken in times.items():
            took, done = run(argv[contender], at)
            taken.append(took)
            if contender == MUSTER and common.ledger(done) != expected:
                sys.exit(f"{name}: muster counts {common.ledger(done)}, go test {expected}")
    middle = common.show(f"{name}: {expected}", times)
    return common.judge(middle, MUSTER, GO, LIMITS[name])


if __name__ == "__main__":
    common.main(__doc__, "go", LIMITS, lambda work, muster: lambda name, rounds: measure(work, muster, name, rounds))
