"""What the benchmarks share: arguments, running clunk, numbers, tables. Standard library only."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APPS = Path(__file__).resolve().parent / "apps"


def arguments(description):
    """`--clunk PROGRAM` and `--quick`, parsed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--clunk", default=find_clunk(), help="the program to measure")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a check that it works, not a measurement")
    found = parser.parse_args()
    if not found.clunk or not Path(found.clunk).exists():
        parser.error("there is no clunk to measure: run `make build`, or name one with --clunk")
    found.clunk = str(Path(found.clunk).resolve())
    return found


def find_clunk():
    built = ROOT / "target/release/clunk"
    return os.environ.get("CLUNK_BIN") or (str(built) if built.exists() else shutil.which("clunk"))


class Clunk:
    """The program, with the server of `CLUNK_HOME` or of another folder."""

    def __init__(self, program, **environment):
        self.program = program
        self.environment = {**os.environ, **environment}

    def __call__(self, *words, timeout=600, check=True):
        command = [self.program, *map(str, words)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=timeout, cwd=ROOT)
        if check and done.returncode != 0:
            shown = " ".join(["clunk", *map(str, words)])
            sys.exit(f"error: `{shown}` ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def ensure_server(self):
        """Starts a server when none runs; tells whether it did."""
        if self("status", check=False).returncode == 0:
            return False
        self("up")
        return True

    def status(self):
        return json.loads(self("status", "--json").stdout)["server"]

    def run_app(self, name, *words, timeout=600):
        """Runs `apps/NAME` and gives the JSON of its last line."""
        done = self("run", APPS / name, *words, timeout=timeout)
        return last_line(done.stdout)

    def seconds(self, *words):
        """How long one command takes, from its start to its end."""
        began = time.perf_counter()
        self(*words)
        return time.perf_counter() - began


def last_line(text):
    """The JSON of the last line that a program printed."""
    return json.loads(text.strip().splitlines()[-1])


def percentile(values, share):
    """The value that `share` (0 to 1) of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def median(values):
    return percentile(values, 0.5)


class Report:
    """Measured values, each beside what is promised."""

    def __init__(self, name, quick):
        self.name = name
        self.quick = quick
        self.rows = []

    def add(self, what, value, unit, most=None, least=None):
        """A value; with `most` or `least`, a promise."""
        met = value <= most if most is not None else value >= least if least is not None else None
        row = {"what": what, "value": round(value, 3), "unit": unit, "most": most, "least": least, "met": met}
        self.rows.append(row)

    def finish(self):
        """Prints the table and one line of JSON; the exit code tells whether every promise is met."""
        width = max(len(row["what"]) for row in self.rows)
        print(f"\n{self.name}" + (" (quick)" if self.quick else ""))
        for row in self.rows:
            bounds = [f"at {name} {row[name]:g} {row['unit']}" for name in ("most", "least") if row[name] is not None]
            promise = "".join(bounds)
            verdict = {None: "", True: "met", False: "MISSED"}[row["met"]]
            value = f"{row['value']:,.2f} {row['unit']}"
            print(f"  {row['what']:<{width}}  {value:>16}  {promise:<20}  {verdict}".rstrip())
        print(json.dumps({"bench": self.name, "quick": self.quick, "rows": self.rows}), flush=True)
        sys.exit(0 if all(row["met"] is not False for row in self.rows) else 1)
