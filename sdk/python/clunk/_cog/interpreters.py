"""Other Python interpreters of this machine, for source that is newer than ours."""

import json
import os
import shutil
import subprocess
import sys

from . import COG_VERSION

NEWEST, OLDEST = 14, 9
# Set for the interpreter that was asked: it asks no other.
GUARD = "CLUNK_SCHEMA_ASKED"
# Reading a project takes well under a second; an interpreter that hangs must not hold a build.
TIMEOUT_S = 30


def version_hint():
    version = ".".join(map(str, sys.version_info[:2]))
    return f"read as Python {version}; if the project is for a newer one, set CLUNK_PYTHON to it"


def newer():
    """Interpreters that may know more syntax than ours, newest first, `CLUNK_PYTHON` before all."""
    ours = sys.version_info[1]
    found = [os.environ.get("CLUNK_PYTHON")]
    found += [shutil.which(f"python3.{minor}") for minor in range(NEWEST, max(ours, OLDEST), -1)]
    same = os.path.realpath(sys.executable)
    return list(dict.fromkeys(path for path in found if path and os.path.realpath(path) != same))


def ask(root, predict, train, cog_version=COG_VERSION):
    """What another interpreter reads, as a dict; None when none can do better."""
    if os.environ.get(GUARD):
        return None
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for python in newer():
        words = [python, "-m", "clunk._cog.schema", root, "--json", "--cog-version", cog_version]
        words += [*(["--predict", predict] if predict else []), *(["--train", train] if train else [])]
        environment = {**os.environ, GUARD: "1", "PYTHONPATH": package}
        try:
            done = subprocess.run(words, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False)
            read = json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError):
            continue
        if not any(problem.get("code") == "python-syntax" for problem in read["problems"]):
            return read
    return None
