#!/usr/bin/env python3
"""Runs pytest, pytest-xdist and muster on real suites, in turns, and prints the medians.

    tools/bench/pytest_suites.py [--muster PATH] [--rounds 5] [--work DIR] [SUITE ...]

Suites: attrs, more-itertools (both from PyPI), trivial (200 empty tests). In each round every contender runs once, one
after another, so that a slow phase of the machine meets all of them. Counts that differ from plain pytest's are an error.
Needs Python 3.9 or newer with venv, and PyPI (the first time). Everything it makes is under --work.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

PYTEST, XDIST = "pytest==9.2.0", "pytest-xdist==3.8.0"
SUITES = {"attrs": "attrs==26.1.0", "more-itertools": "more-itertools==11.2.1"}
SLOTS = 2
# Names of contenders, and what muster is compared with.
PLAIN, PEERS, FIRST, AGAIN = "pytest", ("xdist load", "xdist worksteal"), "muster", "muster, with history"
OVER_BEST_PEER_MAX, TRIVIAL_EXTRA_S_MAX = 0.9, 0.2


def sh(argv, **more):
    return subprocess.run(argv, check=True, text=True, capture_output=True, **more)


class Bench:
    def __init__(self, work, muster):
        self.work, self.muster = work, muster
        self.python = work / "venv/bin/python"
        if not self.python.exists():
            sh([sys.executable, "-m", "venv", str(work / "venv")])
        self.pip("install", PYTEST, XDIST, "hypothesis", "cloudpickle")

    def pip(self, *args):
        return sh([str(self.python), "-m", "pip", "-q", "--disable-pip-version-check", *args])

    def suite(self, name):
        """The directory of a suite; fetched if need be."""
        if name == "trivial":
            at = self.work / "trivial"
            at.mkdir(exist_ok=True)
            (at / "pytest.ini").write_text("[pytest]\n")
            (at / "test_trivial.py").write_text("".join(f"def test_{n}(): pass\n" for n in range(200)))
            return at
        requirement = SUITES[name]
        sources = self.work / "sources" / requirement
        if not sources.exists():
            with tempfile.TemporaryDirectory(dir=self.work) as download:
                self.pip("download", "--no-deps", "--no-binary", ":all:", "-d", download, requirement)
                (archive,) = Path(download).glob("*.tar.gz")
                with tarfile.open(archive) as tar:
                    tar.extractall(Path(download) / "x")
                (unpacked,) = (Path(download) / "x").iterdir()
                sources.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(str(unpacked), sources)
        if name == "attrs":
            self.pip("install", str(sources))
        return sources

    def run(self, contender, at):
        """Wall time in seconds, and (passed, others) as counted by the contender."""
        tests = ["tests"] if (at / "tests").is_dir() else []
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "MUSTER_"))}
        data = self.work / "data" / at.name
        if contender == FIRST and data.exists():
            shutil.rmtree(data)
        pytest = [str(self.python), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        muster = [self.muster, "run", *tests, "--python", str(self.python), "--slots", str(SLOTS), "--data-dir", str(data)]
        argv = {
            PLAIN: pytest + tests,
            "xdist load": [*pytest, "-n", str(SLOTS), "--dist", "load", *tests],
            "xdist worksteal": [*pytest, "-n", str(SLOTS), "--dist", "worksteal", *tests],
            FIRST: [*muster, "--", "-p", "no:cacheprovider"],
            AGAIN: [*muster, "--", "-p", "no:cacheprovider"],
        }[contender]
        began = time.monotonic()
        done = subprocess.run(argv, cwd=at, env=env, text=True, capture_output=True)
        took = time.monotonic() - began
        return took, counts(done, "muster" in contender)


def counts(done, of_muster):
    if of_muster:
        found = re.search(r"^(\d+) selected = (.*)$", done.stdout, re.M)
        words = found.group(2) if found else ""
    else:
        words = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    number = {what: int(count) for count, what in re.findall(r"(\d+) (passed|failed|skipped|xfailed|xpassed|crashed|infra)", words)}
    if not number:
        sys.exit(f"no counts in the output of {done.args}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    # muster counts an expected failure as passed, and says so beside it.
    passed = number.get("passed", 0) + (0 if of_muster else number.get("xfailed", 0) + number.get("xpassed", 0))
    return {"passed": passed, "skipped": number.get("skipped", 0), "bad": sum(number.get(key, 0) for key in ("failed", "crashed", "infra"))}


def collecting(bench, at):
    tests = ["tests"] if (at / "tests").is_dir() else []
    began = time.monotonic()
    argv = [str(bench.python), "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *tests]
    subprocess.run(argv, cwd=at, capture_output=True, check=False)
    return time.monotonic() - began


def measure(bench, name, rounds):
    at = bench.suite(name)
    contenders = [PLAIN, *PEERS, FIRST, AGAIN]
    times = {contender: [] for contender in [*contenders, "collecting"]}
    for _ in range(rounds):
        expected = None
        for contender in contenders:
            took, counted = bench.run(contender, at)
            times[contender].append(took)
            expected = expected or counted
            if counted != expected:
                sys.exit(f"{name}: {contender} counts {counted}, plain pytest {expected}")
        times["collecting"].append(collecting(bench, at))
    print(f"\n{name}: {expected['passed']} passed, {expected['skipped']} skipped; {SLOTS} at once, median of {rounds} (least to most)")
    middle = {contender: statistics.median(taken) for contender, taken in times.items()}
    for contender, taken in times.items():
        print(f"  {contender:22} {middle[contender]:7.2f} s   ({min(taken):.2f} to {max(taken):.2f})")
    return judge(name, middle)


def judge(name, middle):
    if name == "trivial":
        extra = middle[FIRST] - middle[PLAIN]
        kept = extra <= TRIVIAL_EXTRA_S_MAX
        print(f"  muster over plain pytest: {extra:+.2f} s, limit +{TRIVIAL_EXTRA_S_MAX} s: {'kept' if kept else 'NOT KEPT'}")
        return kept
    best = min(middle[peer] for peer in PEERS)
    ideal = middle["collecting"] + (middle[PLAIN] - middle["collecting"]) / SLOTS
    kept = True
    for contender in (FIRST, AGAIN):
        ratio = middle[contender] / best
        kept &= ratio <= OVER_BEST_PEER_MAX
        word = "kept" if ratio <= OVER_BEST_PEER_MAX else "NOT KEPT"
        over = middle[contender] / ideal - 1
        print(f"  {contender}: {ratio:.2f} x the better xdist, limit {OVER_BEST_PEER_MAX}: {word}; {over:+.0%} of collecting once plus half of the rest")
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", default=["trivial", "attrs", "more-itertools"])
    parser.add_argument("--muster", default="target/release/muster")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "muster-bench-pytest")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.work.resolve(), str(Path(args.muster).resolve()))
    kept = [measure(bench, name, args.rounds) for name in args.suites]
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
