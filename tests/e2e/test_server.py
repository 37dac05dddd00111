"""The server: one per state folder, nothing left behind, damage named."""

import json
import os
import signal
import socket
import stat
import subprocess
import urllib.request

from conftest import container_processes, kill_server, leftovers, wait_until

NAPS = """
import time
import clunk
app = clunk.App("naps")

@app.function()
def nap():
    print("asleep", flush=True)
    time.sleep(600)

@app.local_entrypoint()
def main():
    nap.remote()
"""



def is_running(pid):
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


NOTHING = {"processes": 0, "mounts": 0, "cgroups": 0, "interfaces": 0, "scratch": 0}


def borrow_images(own_home, home, project):
    """A server of one's own would bootstrap Debian again: it takes the other's downloads instead."""
    folder = project(warm="import clunk\napp = clunk.App()\n@app.function()\ndef f(): return 1\n")
    home.ok("run", "warm.py", cwd=folder)
    for name in ("cache", "layers", "images"):
        if (home.path / name).exists():
            subprocess.run(["cp", "-a", str(home.path / name), str(own_home.path / name)], check=True)


def test_up_status_down(own_home):
    up = own_home.run("up")
    assert up.returncode == 0 and "http://127.0.0.1:" in up.stderr
    again = own_home.run("up")
    assert again.returncode != 0 and "already" in again.stderr and own_home.server()["url"] in again.stderr
    status = own_home.status()
    assert status["running"] and status["server"]["memory_bytes"] < 40_000_000
    token = own_home.path / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    pid = own_home.server()["pid"]
    assert own_home.run("down").returncode == 0
    assert not is_running(pid)
    assert own_home.run("status").returncode == 3
    assert own_home.run("down").returncode == 0


def test_two_starts_at_once_make_one_server(own_home):
    starts = [own_home.popen("up") for _ in range(4)]
    codes = sorted(start.wait(timeout=30) for start in starts)
    assert codes[0] == 0 and all(codes[1:])
    for start in starts:
        out, err = start.communicate()
        assert start.returncode == 0 or "already" in err or "another process" in err, err
    assert own_home.status()["running"]


def test_a_taken_port_is_named(own_home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = own_home.run("up", "--port", port)
    assert done.returncode != 0 and port in done.stderr and "--port" in done.stderr


def test_a_stranger_gets_nothing(home):
    home.ok("doctor")
    url = home.server()["url"] if (home.path / "server.json").exists() else None
    if url is None:
        home.ok("up")
        url = home.server()["url"]
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        request = urllib.request.Request(url + "/api/apps", headers=headers)
        try:
            urllib.request.urlopen(request)
            raise AssertionError("let in")
        except urllib.error.HTTPError as error:
            assert error.code == 401
            assert json.load(error)["error"]["code"] == "unauthorized"


def test_damage_is_named_and_nothing_is_touched(own_home):
    own_home.ok("up")
    own_home.ok("down")
    database = own_home.path / "clunk.db"
    damaged = b"not a database at all" * 100
    for name in ("clunk.db-wal", "clunk.db-shm"):
        (own_home.path / name).unlink(missing_ok=True)
    database.write_bytes(damaged)
    done = own_home.run("up")
    assert done.returncode != 0 and "clunk.db" in done.stderr and "mv " in done.stderr, done.stderr
    assert database.read_bytes() == damaged


def test_kill_9_of_the_server_leaves_nothing_after_the_next_start(own_home, home, project):
    borrow_images(own_home, home, project)
    own_home.ok("up")
    folder = project(naps=NAPS)
    client = own_home.popen("run", "naps.py", cwd=folder)
    assert client.stdout.readline() == "asleep\n"
    assert leftovers(own_home)["processes"] > 0
    kill_server(own_home)
    client.communicate(timeout=30)
    assert client.returncode not in (0, None)
    own_home.ok("up")
    wait_until("no container of the killed server", lambda: leftovers(own_home)["processes"] == 0)
    # The app waits for its client to come back, and holds nothing meanwhile.
    status = json.loads(own_home.ok("status", "--json"))["server"]
    assert (status["replicas"], status["calls_running"], status["calls_queued"]) == (0, 0, 0)
    own_home.ok("down")
    wait_until("nothing left", lambda: leftovers(own_home) == NOTHING)


def test_kill_9_of_everything(own_home, home, project):
    borrow_images(own_home, home, project)
    own_home.ok("up")
    client = own_home.popen("run", "naps.py", cwd=project(naps=NAPS))
    assert client.stdout.readline() == "asleep\n"
    server = own_home.server()["pid"]
    family = subprocess.run(["pgrep", "-s", str(os.getsid(server))], capture_output=True, text=True).stdout.split()
    for pid in family:
        os.kill(int(pid), signal.SIGKILL)
    client.communicate(timeout=30)
    own_home.ok("up")
    own_home.ok("down")
    wait_until("nothing left", lambda: leftovers(own_home) == NOTHING)


def test_down_ends_what_runs(own_home, home, project):
    borrow_images(own_home, home, project)
    client = own_home.popen("run", "naps.py", cwd=project(naps=NAPS))
    assert client.stdout.readline() == "asleep\n"
    own_home.ok("down")
    _, err = client.communicate(timeout=30)
    assert client.returncode not in (0, None) and err
    assert container_processes(own_home) == []


MANY = """
import asyncio
import time
import clunk
app = clunk.App("many")

@app.function(single_use_containers=True)
def one(seconds: float):
    time.sleep(seconds)
    return clunk.current_function_call_id()

@app.local_entrypoint()
def main(parallel: int, sequential: int):
    async def together():
        return await asyncio.gather(*[one.remote.aio(1.0) for _ in range(parallel)])
    print(len(set(asyncio.run(together()))))
    print(len({one.remote(0) for _ in range(sequential)}))
"""


def test_fifty_at_once_and_many_in_turn_leak_nothing(home, project):
    folder = project(many=MANY)
    home.ok("run", "many.py", "--parallel", "1", "--sequential", "1", cwd=folder)
    before = leftovers(home)
    sequential = os.environ.get("CLUNK_TEST_SEQUENTIAL", "100")
    out = home.ok("run", "many.py", "--parallel", "50", "--sequential", sequential, cwd=folder, timeout=600)
    assert out.split() == ["50", sequential]
    wait_until("as before", lambda: leftovers(home) == before)
    assert before["processes"] == before["scratch"] == 0
