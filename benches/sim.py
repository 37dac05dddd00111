"""The simulator: placing among ten thousand machines, playing them, and our autoscaler beside a Knative-style one."""

import json
import os
import subprocess
import sys
from pathlib import Path

from common import ROOT, Report, arguments

MACHINES, REPLICAS = 10_000, 100_000
SEEDS = (1, 2, 3)
QUICK = 10
# Placing is on the way of every cold start.
PLACE_P99_MS = 1.0


def build():
    """Compiles the two programs with the release profile; gives their folder."""
    command = ["cargo", "build", "--release", "--quiet", "--package", "clunk-sim", "--examples"]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        sys.exit("error: the simulator does not build")
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release/examples"


def lines(*command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def ratios(program, seeds):
    """Of each trace, our cost and our wait as a share of the other's, the mean over the seeds."""
    found = {}
    for seed in seeds:
        rows = {(row["trace"], row["policy"]): row for row in lines(program, seed, "--json")}
        for trace in dict.fromkeys(trace for trace, _ in rows):
            ours, other = rows[trace, "ours"], rows[trace, "knative"]
            cost = ours["replica_s"] / other["replica_s"]
            # Below a millisecond both wait for nothing.
            wait = max(ours["p99_ms"], 1.0) / max(other["p99_ms"], 1.0)
            found.setdefault(trace, []).append((cost, wait))
    return {trace: tuple(sum(pair[i] for pair in pairs) / len(pairs) for i in (0, 1)) for trace, pairs in found.items()}


def main():
    options = arguments(__doc__)
    folder = build()
    part = QUICK if options.quick else 1
    report = Report("sim", options.quick)

    fleet = lines(folder / "fleet", MACHINES // part, REPLICAS // part)[0]
    size = f"{fleet['machines']:,} machines, {fleet['replicas']:,} replicas"
    report.add(f"placement p99, {size}", fleet["place_p99_us"] / 1000, "ms", PLACE_P99_MS)
    report.add(f"placement p50, {size}", fleet["place_p50_us"] / 1000, "ms")
    report.add(f"events played, {fleet['machines']:,} machines", fleet["events_per_s"], "/s")

    for trace, (cost, wait) in ratios(folder / "replay", SEEDS[:1] if options.quick else SEEDS).items():
        report.add(f"{trace}: replica-seconds beside Knative-style", cost, "x")
        report.add(f"{trace}: p99 wait beside Knative-style", wait, "x")
        # Dearer may be quicker and slower may be cheaper; both would be a loss.
        report.add(f"{trace}: the better of the two", min(cost, wait), "x", 1.02)
    report.finish()


if __name__ == "__main__":
    main()
