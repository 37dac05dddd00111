"""Runs every benchmark, then says which promises of SPEC.md are met."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from common import Clunk, arguments

NAMES = (
    "start", "call", "map", "scale", "cancel", "overhead", "batching", "cog", "spawn", "sim", "payload", "cli", "image",
    "many",
)
HERE = Path(__file__).resolve().parent


def run(name, options, environment):
    """A benchmark's rows; None when it broke."""
    command = [sys.executable, HERE / f"{name}.py", "--clunk", options.clunk, *(["--quick"] if options.quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    lines = done.stdout.strip().splitlines()
    print("\n".join(line for line in lines if not line.startswith("{")), flush=True)
    try:
        return json.loads(lines[-1])["rows"]
    except (IndexError, ValueError):
        print(f"{name} broke", flush=True)
        return None


def main():
    options = arguments(__doc__)
    # A server of its own, unless CLUNK_HOME names one.
    folder = None
    environment = dict(os.environ, CLUNK_BIN=options.clunk)
    if not environment.get("CLUNK_HOME"):
        folder = tempfile.mkdtemp(prefix="clunk-bench-", dir="/var/tmp")
        os.chmod(folder, 0o755)
        environment["CLUNK_HOME"] = os.path.join(folder, "home")
        Clunk(options.clunk, **environment)("up", "--port", 0)
    try:
        results = {name: run(name, options, environment) for name in NAMES}
    finally:
        if folder:
            Clunk(options.clunk, **environment)("down", check=False)
            shutil.rmtree(folder, ignore_errors=True)

    promises = [(name, row) for name, rows in results.items() for row in rows or [] if row["met"] is not None]
    missed = [f"{name}: {row['what']}" for name, row in promises if not row["met"]]
    broken = [name for name, rows in results.items() if rows is None]
    print(f"\n{len(promises) - len(missed)} of {len(promises)} promises met")
    for line in missed:
        print(f"  missed  {line}")
    for name in broken:
        print(f"  broke   {name}")
    print(json.dumps({"bench": "all", "met": len(promises) - len(missed), "missed": missed, "broken": broken}))
    sys.exit(1 if missed or broken else 0)


if __name__ == "__main__":
    main()
