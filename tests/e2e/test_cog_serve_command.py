"""`clunk serve`: a project in a container of this machine's server, and without one."""

import json
import signal
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from cog_servers import PROJECTS, free_port
from conftest import wait_until

# The first image of a run is built.
READY_S = 240


class Served:
    """`clunk serve` as a person runs it."""

    def __init__(self, home, *words):
        self.port = free_port()
        self.process = home.popen("serve", *words, "--port", self.port, stderr=subprocess.STDOUT)

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def status(self):
        assert self.process.poll() is None, self.process.stdout.read()
        try:
            return self.ask("/health-check")["status"]
        except urllib.error.URLError:
            return None

    def wait_ready(self):
        wait_until("the model is served", lambda: self.status() == "READY", READY_S)
        return self

    def stop(self):
        """Ctrl-C; what it printed."""
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=60)[0]


def refuses_connections(port):
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
        return False
    except OSError:
        return True


@pytest.mark.parametrize("where", ["in a container", "locally"])
def test_a_project_is_served_until_the_command_ends(home, where):
    served = Served(home, *(["--local"] if where == "locally" else []), PROJECTS / "echo").wait_ready()
    answer = served.ask("/predictions", {"input": {"s": "hello"}})
    assert (answer["status"], answer["output"]) == ("succeeded", "hello 1 1.0 False 8 ab None")
    assert served.ask("/openapi.json")["components"]["schemas"]["Input"]["required"] == ["s"]
    printed = served.stop()
    assert "hello" not in printed
    wait_until("the port is free", lambda: refuses_connections(served.port))


def test_what_the_model_prints_is_shown(home):
    served = Served(home, PROJECTS / "echo").wait_ready()
    answer = served.ask("/predictions", {"input": {"s": "a", "mode": "print"}})
    assert answer["logs"].startswith("hello log\n")
    assert "hello log\n" in served.stop()


def test_a_crash_in_a_container_fails_one_prediction(home):
    served = Served(home, PROJECTS / "crash").wait_ready()
    assert "3" in served.ask("/predictions", {"input": {"how": "exit"}})["error"]
    assert served.ask("/predictions", {"input": {"s": "after"}})["status"] == "succeeded"
    served.stop()


def test_a_taken_port_is_told_before_anything_is_served(home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = home.run("serve", PROJECTS / "echo", "--port", taken.getsockname()[1])
    assert done.returncode != 0
    assert "port-taken" in done.stderr and str(taken.getsockname()[1]) in done.stderr
