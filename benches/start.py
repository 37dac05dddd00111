"""A new container to the first line of its program, beside a bare floor and runc. Needs root and cargo.

The work is done by `crates/runtime/examples/start_bench.rs`, which measures the three in turn.
"""

import re
import subprocess
import sys
from pathlib import Path

from common import ROOT, Clunk, Report, arguments

LINE = re.compile(r"^(\w+) +median +([\d.]+) ms +p95 +([\d.]+) ms")


def root_file_system(clunk):
    """The Debian layer of the image that `hello.py` uses: a whole system with a Python."""
    clunk("run", "examples/hello.py")
    layers = Path(clunk.status()["state_dir"], "layers").glob("*/fs/usr/bin/python3")
    found = [path.parents[2] for path in layers if (path.parents[2] / "etc/debian_version").exists()]
    return found[0] if found else sys.exit("error: no layer with Debian and Python in the state folder")


def main():
    options = arguments(__doc__)
    clunk = Clunk(options.clunk)
    clunk.ensure_server()
    command = ["cargo", "run", "--quiet", "--release", "--package", "clunk-runtime", "--example", "start_bench", "--"]
    command += [root_file_system(clunk), "20" if options.quick else "100"]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    measured = {}
    for line in done.stderr.splitlines():
        found = LINE.match(line)
        if found:
            measured[found.group(1)] = float(found.group(2)), float(found.group(3))
        else:
            print(line)

    report = Report("start", options.quick)
    (ours, slow), (floor, _) = measured["clunk"], measured["floor"]
    report.add("clunk, median", ours, "ms", 35)
    report.add("clunk, p95", slow, "ms")
    report.add("bare floor, median", floor, "ms")
    report.add("clunk over the floor", ours / floor, "x", 2)
    if "runc" in measured:
        report.add("runc, median", measured["runc"][0], "ms")
        report.add("clunk over runc", ours / measured["runc"][0], "x")
    report.finish()


if __name__ == "__main__":
    main()
