"""Apps whose functions tests call: run to their end, or kept while a test speaks to them over HTTP."""

import json
import subprocess
import textwrap

from api import Api
from conftest import wait_until


HEAD = """
import asyncio
import json
import os
import sys
import threading
import time
import clunk
app = clunk.App("calls")
"""


def told(home, project, source, *words):
    """Runs an app whose last line is JSON; what that says."""
    folder = project(calls=HEAD + textwrap.dedent(source))
    out = home.ok("run", "calls.py", *words, cwd=folder)
    return json.loads(out.strip().splitlines()[-1])


class Running:
    """An app that stays while a test speaks to its functions over HTTP."""

    MAIN = """
@app.local_entrypoint()
def main():
    print(json.dumps({function.name: function.object_id for function in list(globals().values())
                      if isinstance(function, clunk.Function)}), flush=True)
    sys.stdin.read()
"""

    def __init__(self, home, project, source):
        folder = project(calls=HEAD + textwrap.dedent(source) + self.MAIN)
        self.client = home.popen("run", "calls.py", cwd=folder, stdin=subprocess.PIPE)
        line = self.client.stdout.readline()
        assert line, self.client.communicate()
        self.functions = json.loads(line)
        self.api = Api(home)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.api.close()
        self.client.communicate(timeout=60)

    def wait_state(self, call, state):
        wait_until(f"{call} is {state}", lambda: self.api.record(call)["state"] == state, 60)

    def wait_end(self, call):
        wait_until(f"{call} has ended", lambda: self.api.record(call)["ended_ms"] is not None, 60)
        return self.api.record(call)
