#!/usr/bin/env python3
"""Runs pytest, pytest-xdist and muster on real suites, in turns, and prints the medians.

    tools/bench/pytest_suites.py [--muster PATH] [--rounds 5] [--work DIR] [SUITE ...]

Suites: attrs, more-itertools (both from PyPI), trivial (200 empty tests). In each round every contender runs once, one
after another, so that a slow phase of the machine meets all of them. Counts that differ from plain pytest's are an error.
Needs Python 3.9 or newer with venv, and PyPI (the first time). Everything it makes is under --work.
"""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import common

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
        took, done = common.timed(argv, at, common.without("PYTEST_"))
        return took, common.ledger(done) if contender in (FIRST, AGAIN) else counts(done)

    def collecting(self, at):
        tests = ["tests"] if (at / "tests").is_dir() else []
        argv = [str(self.python), "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *tests]
        return common.timed(argv, at, common.without("PYTEST_"))[0]

    def measure(self, name, rounds):
        at = self.suite(name)
        contenders = [PLAIN, *PEERS, FIRST, AGAIN]
        times = {contender: [] for contender in [*contenders, "collecting"]}
        for _ in range(rounds):
            expected = None
            for contender in contenders:
                took, counted = self.run(contender, at)
                times[contender].append(took)
                expected = expected or counted
                if counted != expected:
                    sys.exit(f"{name}: {contender} counts {counted}, plain pytest {expected}")
            times["collecting"].append(self.collecting(at))
        return judge(name, common.show(f"{name}: {expected['passed']} passed, {expected['skipped']} skipped; {SLOTS} at once", times))


def counts(done):
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    number = {what: int(count) for count, what in re.findall(r"(\d+) (passed|failed|skipped|xfailed|xpassed)", last)}
    if not number:
        common.no_counts(done)
    # muster counts an expected failure as passed, and says so beside it.
    passed = sum(number.get(what, 0) for what in ("passed", "xfailed", "xpassed"))
    return {"passed": passed, "skipped": number.get("skipped", 0), "bad": number.get("failed", 0)}


def judge(name, middle):
    if name == "trivial":
        extra = middle[FIRST] - middle[PLAIN]
        kept = extra <= TRIVIAL_EXTRA_S_MAX
        print(f"  muster over plain pytest: {extra:+.2f} s, limit +{TRIVIAL_EXTRA_S_MAX} s: {common.word(kept)}")
        return kept
    best = min(PEERS, key=middle.get)
    ideal = middle["collecting"] + (middle[PLAIN] - middle["collecting"]) / SLOTS
    kept = True
    for contender in (FIRST, AGAIN):
        kept &= common.judge(middle, contender, best, OVER_BEST_PEER_MAX)
        print(f"    {middle[contender] / ideal - 1:+.0%} of collecting once plus half of the rest")
    return kept


if __name__ == "__main__":
    suites = ["trivial", *SUITES]
    common.main(__doc__, "pytest", suites, lambda work, muster: Bench(work, muster).measure)
