"""What the scripts beside it share: their command line, how a contender is timed, and how times are shown and judged."""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# In a ledger of muster's: what did not pass, and was not skipped.
BAD = ("failed", "crashed", "timed_out", "infra")


def main(doc, tool, suites, make):
    """Measures the suites that are asked for. `make(work, muster)` gives what is called for each with its name and the
    number of rounds, and says whether its limits were kept."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--muster", default=str(ROOT / "target/release/muster"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / f"muster-bench-{tool}")
    parser.add_argument("suites", nargs="*", metavar="SUITE", default=[], help=", ".join(suites))
    args = parser.parse_args()
    if not Path(args.muster).exists():
        sys.exit(f"{args.muster} is not there: cargo build --release, or --muster PATH")
    for name in args.suites:
        if name not in suites:
            sys.exit(f"no suite {name}: {', '.join(suites)}")
    args.work.mkdir(parents=True, exist_ok=True)
    measure = make(args.work.resolve(), str(Path(args.muster).resolve()))
    kept = [measure(name, args.rounds) for name in args.suites or suites]
    sys.exit(0 if all(kept) else 1)


def without(*prefixes):
    """This process's environment but for variables that begin so, and muster's own."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("MUSTER_", *prefixes))}


def timed(argv, at, env):
    """Wall time in seconds, and how it ended."""
    began = time.monotonic()
    done = subprocess.run(argv, cwd=at, env=env, text=True, capture_output=True)
    return time.monotonic() - began, done


def ledger(done):
    """The counts that muster prints at the end: passed, skipped, and what is bad of them together as `bad`."""
    line = re.search(r"^\d+ selected = .*", done.stdout, re.M)
    if not line:
        no_counts(done)
    number = {what: int(count) for count, what in re.findall(r"(\d+) (\w+)", line.group())}
    bad = sum(number.get(what, 0) for what in BAD)
    return {"passed": number.get("passed", 0), "skipped": number.get("skipped", 0), "bad": bad}


def no_counts(done):
    sys.exit(f"no counts in the output of {done.args}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def show(title, times):
    """Prints the times of each contender, and gives the medians."""
    rounds = max(len(taken) for taken in times.values())
    print(f"\n{title}; median of {rounds} (least to most)")
    middle = {contender: statistics.median(taken) for contender, taken in times.items()}
    for contender, taken in times.items():
        print(f"  {contender:26} {middle[contender]:7.2f} s   ({min(taken):.2f} to {max(taken):.2f})")
    sys.stdout.flush()
    return middle


def judge(middle, contender, peer, limit):
    """Whether a contender took at most so many times the time of its peer, which is printed."""
    ratio = middle[contender] / middle[peer]
    print(f"  {contender}: {ratio:.2f} x {peer}, limit {limit}: {word(ratio <= limit)}", flush=True)
    return ratio <= limit


def word(kept):
    return "kept" if kept else "NOT KEPT"
